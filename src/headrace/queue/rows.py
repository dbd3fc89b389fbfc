"""A run between services, worker and queue: as it is requested, started, queued and ended."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.checkpoints.fence import RunToken
from headrace.idempotency.schemas import RequestKey

#: What becomes of a run that is asked to stop: kept as ``interrupted``, or undone without a trace.
CancelAction = Literal["interrupt", "rollback"]
#: The same, or stopped because it is going to be deleted: whoever streams it gets an error.
StopAction = Literal["interrupt", "rollback", "delete"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that is allowed and complete; only a free thread and capacity are still wanted."""

    run_id: UUID
    thread_id: str
    assistant_id: UUID
    graph_id: str
    principal: Principal
    multitask_strategy: str
    #: Stored with the run, and what it can be started from again.
    kwargs: dict[str, Any]
    metadata: dict[str, Any]
    #: The caller's part of the configuration, shown on the thread.
    thread_config: dict[str, Any]
    request_id: str
    #: The state of the assistant that the run was made from; it does not start from an older one.
    #: None: whatever its state is by now.
    assistant_updated_at: datetime | None
    create_thread: bool
    temporary_thread: bool
    #: Whether this process may execute it at once; otherwise it waits in the queue.
    in_place: bool = True
    #: For readers that come later: the background has nobody who follows from the start.
    keep_events: bool = False
    #: Not before so many seconds from now; more than 0 means the queue.
    after_seconds: float = 0.0
    #: Committed with the run: a retry makes no second one.
    key: RequestKey | None = None

    @property
    def tenant(self) -> str:
        return self.principal.tenant


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to execute a run, by this process; the run has its thread."""

    request: RunRequest
    process_id: UUID
    #: 1 for the first attempt of the run.
    number: int
    #: The metadata of the thread and of the run.
    metadata: dict[str, Any]
    #: Set when somebody asked the run to stop before this attempt began.
    cancel_action: StopAction | None = None
    #: Another process waits for its events already.
    watched: bool = False
    #: Nothing is stored for its thread yet.
    fresh_thread: bool = False
    #: The run was claimed from the queue, not started in place.
    claimed: bool = False
    #: How long an earlier attempt had been executed when its process was lost.
    lived_seconds: float | None = None

    @property
    def token(self) -> RunToken:
        """The right to write for the run."""
        return RunToken(self.request.run_id, self.number, self.process_id)


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """What became of other runs when a run was put into the queue."""

    #: The run that has the thread, if it is asked to make way.
    replaced: UUID | None = None
    action: StopAction | None = None
    #: Runs that waited before it, and are over because of it.
    ended: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a request to stop a run has come to.

    ``state`` is ``unknown`` (there is no such run for the caller), ``ended`` (it has ended, now or
    before), ``removed`` (rolled back at once), or ``asked`` (whoever executes it will see to it).
    """

    run_id: UUID
    thread_id: str
    state: Literal["unknown", "ended", "removed", "asked"]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. ``values`` are the graph's last ones; ``error`` is set when it failed.

    ``reading`` holds the memory of values that were read back, ``forgotten`` says that there is no
    row any more that could tell.
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
    _created_at: datetime,
    cancel_action: StopAction | None,
    watched: bool,
    request_id: str | None,
    lived_seconds: float | None,
    caller: str,
) -> Attempt:
    """From a row of ``claim_runs_of_locked_threads``.

    :raises TypeError: another program has written the row, or damaged it.
    """
    if not isinstance(kwargs, dict) or not isinstance(metadata, dict):
        raise TypeError("kwargs and metadata of a run are objects")
    request = RunRequest(
        assistant_updated_at=None,
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=assistant_id,
        graph_id=graph_id,
        principal=Principal(identity=owner, tenant=tenant, caller=caller),
        multitask_strategy=multitask_strategy,
        kwargs=kwargs,
        metadata=metadata,
        thread_config={},
        request_id=request_id or "",
        create_thread=False,
        temporary_thread=bool(kwargs.get("temporary")),
    )
    return Attempt(
        request,
        process_id,
        number,
        metadata,
        cancel_action,
        watched,
        claimed=True,
        lived_seconds=lived_seconds,
    )
