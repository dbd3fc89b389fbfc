"""The forms of a run that services, worker and queue exchange: its request, attempt and outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Literal
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.auth.run_callers import restored
from headrace.checkpoints.answer_memory import Reading
from headrace.checkpoints.fence import RunToken
from headrace.idempotency.schemas import RequestKey
from headrace.tracing.trace_context import TraceContext, stored_context

#: How a run stops if a client cancels it: it ends as ``interrupted``, or is rolled back and
#: deleted.
CancelAction = Literal["interrupt", "rollback"]
#: As above, or ``delete``: the run will be deleted, and its streams get an error.
StopAction = Literal["interrupt", "rollback", "delete"]
#: Who asked for a stop: a client, the end of its connection (``on_disconnect``), the next run of
#: the thread, or a deletion of the run or its thread.
CancelReason = Literal["client", "disconnect", "next_run", "deleted"]
#: Why a run ended as ``error`` or ``timeout``: its graph, its input or its state; headrace or its
#: database; its time was over; too many processes were lost; its tokens were used up; no process
#: executes its graph; its own deadline has passed.
Cause = Literal["graph", "platform", "timeout", "lost", "budget", "unserved", "deadline"]
#: How an attempt began: started in place, claimed for the first time, or claimed after an attempt
#: that was released or whose process was lost.
Began = Literal["in_place", "claimed", "after_loss", "after_release"]

#: What proves that a process is lost: the kernel has reported its end to its master, or its lease
#: has expired.
Proof = Literal["exit", "lease"]


@dataclass(frozen=True, slots=True)
class CronSlot:
    """One time at which a cron is due, and its next one. A slot gets one run at most.

    :ivar next_at: None: the cron has no later slot.
    """

    cron_id: UUID
    at: datetime
    next_at: datetime | None

    @property
    def marks(self) -> dict[str, str]:
        """How a run tells its cron and its slot: in ``metadata`` and in ``configurable``."""
        return {"cron_id": str(self.cron_id), "cron_slot": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request for a run, checked and complete. The run needs only a free thread and a place."""

    run_id: UUID
    thread_id: str
    assistant_id: UUID
    graph_id: str
    principal: Principal
    multitask_strategy: str
    #: Stored with the run, so that another process can execute it.
    kwargs: dict[str, Any]
    metadata: dict[str, Any]
    #: The client's part of the configuration, shown on the thread.
    thread_config: dict[str, Any]
    request_id: str
    #: When the assistant was last changed, as far as this process knows. If it has changed since,
    #: the run does not start. None: no check.
    assistant_updated_at: datetime | None
    create_thread: bool
    temporary_thread: bool
    #: What the client said of the run: a thread that is made for it gets that as its metadata.
    thread_metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Whether this process may execute the run at once; otherwise the run waits in the queue.
    in_place: bool = True
    #: Keep events for later readers: a background run begins without a reader.
    keep_events: bool = False
    #: The run starts after so many seconds at the earliest. With more than 0 it goes to the queue.
    after_seconds: float = 0.0
    #: Committed with the run, so that a repeated request makes no second run.
    key: RequestKey | None = None
    #: The slot of the cron that makes the run. Committed with it: the slot makes no second run.
    slot: CronSlot | None = None
    #: When this process got the request, by ``time.monotonic``. Meaningless for claimed runs.
    received_at: float = field(default_factory=monotonic, compare=False)
    #: The context under which its attempts are traced; None: there is none.
    trace: TraceContext | None = None

    @property
    def tenant(self) -> str:
        return self.principal.tenant

    @property
    def deadline_seconds(self) -> float | None:
        """How long after it was made, or after its delay, the run must have ended."""
        seconds: float | None = self.kwargs.get("deadline_seconds")
        return seconds


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request to stop a run.

    :ivar action: how the run must stop.
    :ivar reason: who asked.
    :ivar note: why, in the words of the client who asked.
    """

    action: StopAction
    reason: CancelReason | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of this process to execute a run. The run has its thread."""

    request: RunRequest
    process_id: UUID
    #: 1 for the first attempt of the run.
    number: int
    #: The metadata of the thread and of the run.
    metadata: dict[str, Any]
    #: Set if the run was asked to stop before this attempt began.
    asked: StopRequest | None = None
    #: Another process already waits for the run's events.
    watched: bool = False
    #: Nothing is stored for its thread yet.
    fresh_thread: bool = False
    #: The run was claimed from the queue, not started in place.
    claimed: bool = False
    #: How long an earlier attempt had been executed when its process was lost.
    lived_seconds: float | None = None
    #: How long a claimed run has waited for this attempt, by the database's clock.
    queue_seconds: float = 0.0
    #: How the attempt before this one ended: ``released`` or ``lost``.
    earlier_end: str = "released"
    #: Since when the run has waited in the queue for this attempt; None if it did not wait.
    waits_since: datetime | None = None
    #: How long a claimed run has existed without its delay, by the database's clock.
    age_seconds: float = 0.0

    @property
    def began(self) -> Began:
        """How this attempt began."""
        if not self.claimed:
            return "in_place"
        if self.number == 1:
            return "claimed"
        return "after_loss" if self.earlier_end == "lost" else "after_release"

    @property
    def token(self) -> RunToken:
        """The right to write for the run."""
        return RunToken(self.request.run_id, self.number, self.process_id)


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """The effects on other runs when a run was put into the queue."""

    #: The run that has the thread, if it is asked to stop.
    replaced: UUID | None = None
    action: StopAction | None = None
    #: Runs that waited before the new run, and that it has ended or removed.
    ended: tuple[UUID, ...] = ()
    #: Those of ``ended`` that are gone: they were rolled back.
    removed: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The result of a request to stop a run.

    ``state`` is ``unknown`` (the caller has no such run), ``ended`` (the run has ended, now or
    before), ``removed`` (it was rolled back at once), or ``asked`` (the process that executes it
    will stop it).
    """

    run_id: UUID
    thread_id: str
    state: Literal["unknown", "ended", "removed", "asked"]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended: ``values`` are the last values of the graph, ``error`` is set if it failed.

    If values were read from the database, ``reading`` holds their memory. ``forgotten``: the row of
    the run is gone, so its end is not known.
    """

    status: str
    values: Any
    error: dict[str, str] | None
    reading: Reading | None = field(default=None, compare=False)
    forgotten: bool = False


def claimed_attempt(
    process_id: UUID,
    run_id: UUID,
    thread_id: str,
    assistant_id: UUID,
    graph_id: str,
    tenant: str,
    owner: str,
    multitask_strategy: str,
    kwargs: dict[str, Any],
    metadata: dict[str, Any],
    number: int,
    cancel_action: StopAction | None,
    cancel_reason: CancelReason | None,
    cancel_note: str | None,
    watched: bool,
    request_id: str | None,
    lived_seconds: float | None,
    caller: str,
    queue_seconds: float,
    earlier_end: str,
    traceparent: str | None,
    waits_since: datetime | None,
    age_seconds: float,
) -> Attempt:
    """From a row of ``claim_runs_of_locked_threads``.

    :raises TypeError: another program has written the row, or damaged it.
    """
    if not isinstance(kwargs, dict) or not isinstance(metadata, dict):
        raise TypeError("kwargs and metadata of a run are objects")
    if not isinstance(kwargs.get("auth") or {}, dict):
        raise TypeError("what a run keeps of its caller is an object")
    if not isinstance(kwargs.get("deadline_seconds", 0.0), int | float):
        raise TypeError("the deadline of a run is a number of seconds")
    request = RunRequest(
        assistant_updated_at=None,
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=assistant_id,
        graph_id=graph_id,
        principal=restored(tenant, owner, caller, kwargs.get("auth")),
        multitask_strategy=multitask_strategy,
        kwargs=kwargs,
        metadata=metadata,
        thread_config={},
        request_id=request_id or "",
        create_thread=False,
        temporary_thread=bool(kwargs.get("temporary")),
        trace=stored_context(traceparent),
    )
    return Attempt(
        request,
        process_id,
        number,
        metadata,
        None if cancel_action is None else StopRequest(cancel_action, cancel_reason, cancel_note),
        watched,
        claimed=True,
        lived_seconds=lived_seconds,
        queue_seconds=queue_seconds,
        earlier_end=earlier_end,
        waits_since=waits_since,
        age_seconds=age_seconds,
    )
