"""A run between services, worker and queue: as it is requested, started, queued and ended."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
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
class StartedRun:
    """A run that this process has, with its thread."""

    attempt: int
    #: The thread's and its own.
    metadata: dict[str, Any]
    created_at: datetime
    #: Set when it was asked to stop before this attempt of it began.
    cancel_action: StopAction | None = None
    #: A process that does not execute it waits for its events already.
    watched: bool = False
    #: Nothing is stored for its thread yet.
    fresh_thread: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run that waits for its thread, its time or a free place; any process may claim it."""

    run_id: UUID
    thread_id: str
    metadata: dict[str, Any]
    created_at: datetime
    #: The run that has its thread, when that is asked to make way.
    replaced: UUID | None = None
    action: StopAction | None = None
    #: Runs that waited before it and are over because of it.
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
