"""Where services meet the worker: what they hand over, and what they get to follow.

The worker implements :class:`Dispatcher`; the lifespan joins both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.events.channel import Channel
from headrace.events.reader import EventReader
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


class FollowedRun(Protocol):
    """A run that somebody follows, wherever it is executed."""

    @property
    def run_id(self) -> UUID: ...

    @property
    def thread_id(self) -> str: ...

    @property
    def repeated(self) -> bool:
        """Whether an earlier try of the same request has made it."""
        ...

    def subscribe(self, after: int | None = None) -> EventReader:
        """Follow its events.

        :param after: -1: from the start; otherwise what comes after that event id; None: for who
            has made the run, everything, when called before the first wait; for others what is to
            come, and before it what this or the executing process still holds.
        """
        ...

    def unsubscribe(self, reader: EventReader) -> None: ...

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """How it ended, once the row says so; None when it still runs after the timeout.

        :raises Released: this process follows it no longer.
        :raises AnswerTooLarge, AnswersFull: its values cannot be read, or not now.
        """
        ...

    async def ended(self, timeout_seconds: float) -> bool:
        """Whether it has ended, without its values.

        :raises Released: this process follows it no longer.
        """
        ...

    def cancel(self, reason: str) -> None:
        """Ask it to stop; it ends as ``interrupted``."""
        ...


class LocalRun(Protocol):
    """A run that this process executes."""

    @property
    def channel(self) -> Channel: ...

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """:raises Moved: it goes on elsewhere."""
        ...

    def cancel(self, reason: str) -> None: ...


class Dispatcher(Protocol):
    async def start(self, request: RunRequest) -> LocalRun | QueuedRun:
        """Start in place, or put it into the queue; either is committed on return.

        :raises ThreadBusy: another run has the thread, and the strategy is ``reject``.
        :raises ThreadNotFound: there is none that the caller may see.
        :raises RunForgotten: a try before this has made it, and it is gone.
        :raises Unavailable: this process can do neither.
        """
        ...

    async def cancel(
        self, tenant: str, run_ids: Sequence[UUID], action: StopAction, reason: str
    ) -> list[Cancellation]:
        """Ask runs to stop; returns, for each, what has become of it up to now."""
        ...

    def wake(self) -> None:
        """There may be something to claim, or somebody may have asked a run here to stop."""
        ...
