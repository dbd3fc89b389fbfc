"""One run in this process: who follows it, whether it was asked to stop, how it ended."""

import asyncio
from enum import Enum
from uuid import UUID

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.run_writes import RunWrites
from headrace.events.channel import Channel, Reader
from headrace.runs.dispatcher import RunOutcome, RunRequest, StartedRun


class Stop(Enum):
    """Why a run is stopped before its graph is through; a later one of these trumps an earlier."""

    #: Anybody may go on with it: this process ends.
    RELEASED = 1
    CANCEL = 2
    #: It is to leave no trace.
    ROLLBACK = 3
    #: Nothing may be written.
    LEASE_LOST = 4


class Execution:
    """Implements :class:`headrace.runs.dispatcher.FollowedRun`."""

    def __init__(
        self, request: RunRequest, started: StartedRun, process_id: UUID, channel: Channel
    ) -> None:
        self.request = request
        self.started = started
        self.process_id = process_id
        self.channel = channel
        #: The fence of whatever it writes.
        self.token = RunToken(request.run_id, started.attempt, process_id)
        #: What it has written; None before its graph has begun.
        self.writes: RunWrites | None = None
        self.stop: Stop | None = None
        self.stop_message = ""
        self._stopped = asyncio.Event()
        self._ended = asyncio.Event()
        self._outcome: RunOutcome | None = None

    @property
    def run_id(self) -> UUID:
        return self.request.run_id

    @property
    def thread_id(self) -> str:
        return self.request.thread_id

    def subscribe(self, after: int | None = None) -> Reader:
        return self.channel.subscribe()

    def unsubscribe(self, reader: Reader) -> None:
        self.channel.unsubscribe(reader)

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._ended.wait()
        except TimeoutError:
            return None
        return self._outcome

    def cancel(self, reason: str) -> None:
        self.ask_to_stop(Stop.CANCEL, reason)

    def ask_to_stop(self, stop: Stop, message: str) -> None:
        """Of several reasons the strongest counts, and of equal ones the first."""
        if self.stop is None or stop.value > self.stop.value:
            self.stop = stop
            self.stop_message = message
        self._stopped.set()

    async def until_stopped(self) -> None:
        await self._stopped.wait()

    async def until_finished(self) -> None:
        await self._ended.wait()

    def finish(self, outcome: RunOutcome) -> None:
        """Tell everyone who follows; the row says the same already."""
        self._outcome = outcome
        self._ended.set()
        self.channel.close()
