"""One run in this process: who follows it, whether it was asked to stop, how it ended."""

import asyncio
from enum import Enum
from uuid import UUID

from headrace.checkpoints.run_writes import RunWrites
from headrace.events.channel import Channel
from headrace.events.event import RUN_DELETED, end_event
from headrace.events.reader import Moved
from headrace.lifecycle import Signal
from headrace.queue.rows import Attempt, RunOutcome
from headrace.thread_pool import Work
from headrace.worker.channels import Channels


class Stop(Enum):
    """Why a run is stopped before its graph is through; a later one of these trumps an earlier."""

    #: Anybody may go on with it: this process ends.
    RELEASED = 1
    CANCEL = 2
    #: It is going to be deleted.
    DELETED = 3
    #: It is to leave no trace.
    ROLLBACK = 4
    #: Nothing may be written.
    LEASE_LOST = 5


_STOPS = {"rollback": Stop.ROLLBACK, "delete": Stop.DELETED}


class Execution:
    """An attempt while this process executes it."""

    __slots__ = (
        "_attention",
        "_ended",
        "_moved",
        "_outcome",
        "attempt",
        "channel",
        "graph",
        "request",
        "stop",
        "stop_message",
        "token",
        "work",
        "writes",
    )

    def __init__(self, attempt: Attempt, channels: Channels) -> None:
        self.attempt = attempt
        self.request = attempt.request
        #: The fence of whatever it writes.
        self.token = attempt.token
        #: What it has written; None before its graph has begun.
        self.writes: RunWrites | None = None
        #: What drives its graph; None before that has begun.
        self.graph: asyncio.Task[None] | None = None
        #: What threads do for it.
        self.work = Work()
        self.stop: Stop | None = None
        self.stop_message = ""
        self.channel: Channel = channels.open(
            self.token,
            self.request.thread_id,
            resumable=bool(self.request.kwargs.get("resumable")),
            # Others may follow a run from the queue, and are to find its events from the first on.
            kept=attempt.claimed or self.request.keep_events,
            on_lost=lambda: self.ask_to_stop(Stop.LEASE_LOST, "The run was taken over."),
        )
        self._attention = Signal()
        self._moved = False
        self._ended = Signal()
        self._outcome: RunOutcome | None = None

    @property
    def run_id(self) -> UUID:
        return self.request.run_id

    @property
    def thread_id(self) -> str:
        return self.request.thread_id

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """How it ended, once the row says so; None when it still runs after the timeout.

        :raises Moved: it does not end here.
        """
        if not await self._ended.wait(timeout_seconds):
            return None
        if self._moved:
            raise Moved
        return self._outcome

    def cancel(self, reason: str) -> None:
        self.ask_to_stop(Stop.CANCEL, reason)

    def stop_as_asked(self, action: str, message: str = "The run was cancelled.") -> None:
        """Its row says that it is to stop."""
        self.ask_to_stop(_STOPS.get(action, Stop.CANCEL), message)

    def ask_to_stop(self, stop: Stop, message: str) -> None:
        """Of several reasons the strongest counts, and of equal ones the first."""
        if self.stop is None or stop.value > self.stop.value:
            self.stop = stop
            self.stop_message = message
        if stop is Stop.LEASE_LOST:
            self.channel.abandon()
        self._attention.set()

    async def wait_for(self, graph: asyncio.Task[None], timeout_seconds: float) -> None:
        """Return once the graph is through, the run is asked to stop, or its time is over."""
        graph.add_done_callback(lambda _: self._attention.set())
        await self._attention.wait(timeout_seconds)

    async def until_finished(self) -> None:
        await self._ended.wait()

    def finish(self, outcome: RunOutcome) -> None:
        """Tell everyone who follows; the row says the same already."""
        self._outcome = outcome
        self._ended.set()
        # Whoever asked it to stop may wait for that elsewhere.
        self.channel.awaited = self.stop is not None
        end = None
        try:
            # Of a deletion its events have told already.
            if outcome.error != RUN_DELETED:
                end = end_event(self.run_id, outcome.status, outcome.error)
        finally:
            self.channel.close(end)

    def hand_over(self) -> None:
        """It goes on, or is ended, elsewhere: whoever follows it here is to follow it there."""
        self._moved = True
        self._ended.set()
        self.channel.move()
