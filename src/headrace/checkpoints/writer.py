"""Group commit: what runs and savers write at the same time becomes few transactions.

The public face is :class:`Writer`. Operations of one thread are committed in the order in which
they were queued; those of different threads share flushes. Threads are spread over lanes, each with
one connection of the pool while it has work; large values go through a lane of their own, so that
nothing small waits behind them.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.checkpoints.bound import Bound
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush import Flusher, OnFlush
from headrace.checkpoints.lane import Lane
from headrace.checkpoints.operations import Operation
from headrace.checkpoints.run_writes import RunWrites
from headrace.db.pool import Loan, SharedPool
from headrace.errors import DatabaseUnavailable
from headrace.lifecycle import Tasks
from headrace.settings import CheckpointerSettings

_log = structlog.stdlib.get_logger("headrace.writer")


@dataclass(frozen=True, slots=True)
class WriterFigures:
    """What is queued or in flight, and who waits for a place in the queue."""

    operations: int
    bytes: int
    waiting: int


@dataclass(slots=True)
class _Thread:
    """A thread with operations that have not settled: all of them in one lane."""

    lane: Lane
    operations: int = 0
    idle: asyncio.Future[None] | None = None


class Writer:
    """One per process; needs a running event loop."""

    def __init__(
        self,
        pool: SharedPool,
        settings: CheckpointerSettings,
        *,
        acquire_timeout_seconds: float = 30.0,
        on_flush: OnFlush | None = None,
    ) -> None:
        self._settings = settings
        self._tasks = Tasks()
        flusher = Flusher(settings, on_flush=on_flush)

        def lane(name: str, *, apart: bool = False) -> Lane:
            return Lane(
                name,
                flusher,
                settings,
                lend=lambda: Loan(pool, timeout_seconds=acquire_timeout_seconds),
                tasks=self._tasks,
                on_settled=self._settled,
                apart=apart,
            )

        self._lanes = [lane(str(number)) for number in range(settings.lanes)]
        self._large = lane("large", apart=True)
        self._threads: dict[str, _Thread] = {}
        self._bound = Bound(
            max_operations=settings.max_queued_operations, max_bytes=settings.max_queued_bytes
        )
        self._closed = False

    async def stop(self) -> None:
        """Take no more, commit what is queued, give the connections back.

        What the database does not take within ``drain_seconds`` fails.
        """
        self._closed = True
        for lane in (*self._lanes, self._large):
            lane.hurry()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._tasks.join()
        except TimeoutError:
            _log.error("writer_not_drained", operations=self._bound.operations)
            await self._tasks.stop()

    async def queue(self, operation: Operation) -> None:
        """Return once ``operation`` has its place; it is committed soon after.

        Waits while the queue is full.

        :raises DatabaseUnavailable: the writer is closed.
        """
        lane = self._lane_for(operation)
        if lane is self._large and self._lane_of(operation.thread_id) not in (None, lane):
            # To another lane only when the thread has nothing in its last one: its order stands.
            await self.settled(operation.thread_id)
        await self._bound.enter(operation.size_bytes)
        if self._closed:
            self._bound.leave(operation.size_bytes)
            raise DatabaseUnavailable("The writer of this process is closed.")
        thread = self._threads.setdefault(operation.thread_id, _Thread(lane))
        thread.operations += 1
        if operation.run is not None:
            operation.run.queued(operation.thread_id)
        thread.lane.put(operation)

    async def commit(self, operation: Operation) -> Any:
        """Return ``operation``'s result once it is committed.

        :raises BaseException: what it failed with.
        """
        outcome = operation.outcome()
        await self.queue(operation)
        return await outcome

    async def settled(self, thread_id: str) -> None:
        """Return once nothing of the thread is queued or in flight."""
        while (thread := self._threads.get(thread_id)) is not None:
            thread.lane.hurry()
            if thread.idle is None:
                thread.idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(thread.idle)

    def begin(
        self, token: RunToken | None, *, waits_each: bool, fresh_thread: str | None
    ) -> RunWrites:
        """The writes of a run that begins; see :class:`RunWrites`."""
        return RunWrites(token, waits_each=waits_each, fresh_thread=fresh_thread, hurry=self._hurry)

    def figures(self) -> WriterFigures:
        """What is queued or in flight now."""
        return WriterFigures(self._bound.operations, self._bound.bytes, self._bound.waiting)

    def _lane_of(self, thread_id: str) -> Lane | None:
        thread = self._threads.get(thread_id)
        return None if thread is None else thread.lane

    def _hurry(self, thread_id: str) -> None:
        thread = self._threads.get(thread_id)
        if thread is not None:
            thread.lane.hurry()

    def _lane_for(self, operation: Operation) -> Lane:
        if operation.size_bytes > self._settings.large_value_bytes:
            return self._large
        return self._lanes[hash(operation.thread_id) % len(self._lanes)]

    def _settled(self, operation: Operation) -> None:
        self._bound.leave(operation.size_bytes)
        thread = self._threads[operation.thread_id]
        thread.operations -= 1
        if not thread.operations:
            del self._threads[operation.thread_id]
            if thread.idle is not None:
                thread.idle.set_result(None)
