"""Where services meet the worker: what they hand over, and what they get to follow.

The worker implements :class:`Dispatcher`; the lifespan joins both.
"""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.events.channel import Reader


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
    create_thread: bool
    temporary_thread: bool


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. ``values`` are the graph's last ones; ``error`` is set when it failed."""

    status: str
    values: Any
    error: dict[str, str] | None


class RunningRun(Protocol):
    """A run in this process."""

    @property
    def run_id(self) -> UUID: ...

    @property
    def thread_id(self) -> str: ...

    def subscribe(self) -> Reader:
        """Follow its events: all of them, when called before the first wait."""
        ...

    def unsubscribe(self, reader: Reader) -> None: ...

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """How it ended, once the row says so; None when it still runs after the timeout."""
        ...

    def cancel(self, reason: str) -> None:
        """Ask it to stop; it ends as ``interrupted``."""
        ...


class Dispatcher(Protocol):
    async def start(self, request: RunRequest) -> RunningRun:
        """Start in place; the run is committed on return.

        :raises ThreadBusy: another run has the thread.
        :raises ThreadNotFound: there is none that the caller may see.
        :raises AtCapacity, Draining: this process takes no more.
        """
        ...
