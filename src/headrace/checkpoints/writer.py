"""Group commit: concurrent writes of runs and savers become few transactions.

Other rooms use :class:`Writer`. Operations of one thread are committed in the order in which they
were queued. Operations of different threads share flushes. A lane holds one connection of the pool
while it has work. Large values have a queue and a lane of their own, so that small values do not
wait behind them.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import structlog

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush import Flusher, OnFlush
from headrace.checkpoints.lanes import Lanes
from headrace.checkpoints.operations import Operation
from headrace.checkpoints.queue_bound import QueueBound
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.stray_sweeper import Strays
from headrace.checkpoints.tally import UsageTally
from headrace.checkpoints.usage_rows import StoreUsage
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks
from headrace.observability.figures import WriterFigures
from headrace.unavailable_errors import DatabaseUnavailable

_log = structlog.stdlib.get_logger("headrace.writer")


@dataclass(slots=True)
class _Thread:
    """A thread with operations that have not settled: in its lanes, or held back behind those."""

    lanes: Lanes
    queued: int = 0
    settled: int = 0
    #: The first large operation and all later ones. They move to the large lane when this lane has
    #: finished the earlier ones.
    held: deque[Operation] = field(default_factory=deque)
    #: Waiting callers, each with the value of ``settled`` that it waits for.
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        """Whether the lanes have no operation of this thread."""
        return self.settled + len(self.held) == self.queued


class Writer:
    """One per process; needs a running event loop.

    :ivar strays: threads with a flush that the writer gave up, but Postgres may still carry out.
    """

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
        self.strays = Strays()
        flusher = Flusher(settings, self.strays, on_flush=on_flush)

        def lanes(
            name: str, count: int, *, in_thread: bool = False, yields_to: Lanes | None = None
        ) -> Lanes:
            return Lanes(
                name,
                pool,
                flusher,
                settings,
                count=count,
                acquire_timeout_seconds=acquire_timeout_seconds,
                tasks=self._tasks,
                on_settled=self._settled,
                in_thread=in_thread,
                yields_to=yields_to,
            )

        self._small = lanes("small", settings.lanes)
        self._large = lanes("large", 1, in_thread=True, yields_to=self._small)
        self._threads: dict[str, _Thread] = {}
        self._bound = QueueBound(
            max_operations=settings.max_queued_operations, max_bytes=settings.max_queued_bytes
        )
        self._closed = False

    async def stop(self) -> None:
        """Refuse new operations, commit the queued ones, give the connections back.

        Operations that are not committed within ``drain_seconds`` fail.
        """
        self._closed = True
        for lanes in (self._small, self._large):
            lanes.hurry()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._tasks.join()
        except TimeoutError:
            _log.error("writer_not_drained", operations=self._bound.operations)
            for lanes in (self._small, self._large):
                lanes.abandon()
            await self._tasks.stop()

    async def queue(self, operation: Operation) -> None:
        """Return once ``operation`` is queued. It is committed soon after.

        This waits while the queue is full.

        :raises DatabaseUnavailable: the writer is closed.
        """
        await self._bound.enter(operation.size_bytes)
        if self._closed:
            self._bound.leave(operation.size_bytes)
            raise DatabaseUnavailable("The writer of this process is closed.")
        operation.queued_at = perf_counter()
        large = operation.size_bytes > self._settings.large_value_bytes
        thread = self._threads.get(operation.thread_id)
        if thread is None:
            lanes = self._large if large else self._small
            thread = self._threads[operation.thread_id] = _Thread(lanes)
        thread.queued += 1
        if operation.run is not None:
            operation.run.queued(operation.thread_id)
        if thread.held or (large and thread.lanes is not self._large):
            thread.held.append(operation)
        else:
            thread.lanes.put(operation)

    async def queue_usage(self, usage: UsageTally | None) -> None:
        """Queue what a run has used since this was last queued; most often that is nothing.

        The next operation of its thread is committed with it.

        :raises DatabaseUnavailable: the writer is closed.
        """
        if usage is not None and usage.changed:
            await self.queue(StoreUsage(usage))

    async def commit(self, operation: Operation) -> Any:
        """Return ``operation``'s result once it is committed.

        :raises BaseException: the error of the operation.
        """
        outcome = operation.outcome()
        await self.queue(operation)
        return await outcome

    async def settled(self, thread_id: str) -> None:
        """Wait until the operations of the thread that are queued now have settled."""
        thread = self._threads.get(thread_id)
        if thread is None:
            return
        thread.lanes.hurry()
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        thread.waiting.append((thread.queued, settled))
        await settled

    def begin(
        self,
        token: RunToken | None,
        *,
        waits_each: bool,
        fresh_thread: str | None,
        usage: UsageTally | None = None,
    ) -> RunWrites:
        """The writes of a new run; see :class:`RunWrites`."""
        return RunWrites(
            token,
            waits_each=waits_each,
            fresh_thread=fresh_thread,
            hurry=self._hurry,
            usage=usage,
        )

    def figures(self) -> WriterFigures:
        """Figures about the operations that are queued or in flight now."""
        return WriterFigures(self._bound.operations, self._bound.bytes, self._bound.waiting)

    def _hurry(self, thread_id: str) -> None:
        thread = self._threads.get(thread_id)
        if thread is not None:
            thread.lanes.hurry()

    def _settled(self, operation: Operation) -> None:
        self._bound.leave(operation.size_bytes)
        thread = self._threads[operation.thread_id]
        thread.settled += 1
        while thread.waiting and thread.waiting[0][0] <= thread.settled:
            _, settled = thread.waiting.popleft()
            if not settled.done():
                settled.set_result(None)
        if thread.held and thread.idle:
            self._move(thread)
        elif thread.settled == thread.queued:
            del self._threads[operation.thread_id]

    def _move(self, thread: _Thread) -> None:
        """Move the thread, with its held operations, to the lane for large values."""
        thread.lanes = self._large
        held, thread.held = thread.held, deque()
        for operation in held:
            self._large.put(operation)
        # These operations have waited already. A caller may have hurried only the other lane.
        self._large.hurry()
