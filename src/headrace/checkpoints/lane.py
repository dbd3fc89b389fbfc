"""A lane of the group-commit writer: one queue, one flush at a time.

If a caller waits, an idle lane flushes at once. Otherwise it waits a moment for more operations. In
a busy lane, the next batch forms while the last one is in flight.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

import structlog

from headrace.checkpoints.flush import Flusher
from headrace.checkpoints.operations import Operation
from headrace.db.held_connection import HeldConnection
from headrace.db.pool import SharedPool
from headrace.errors import DatabaseUnavailable
from headrace.lifecycle import Signal, Tasks
from headrace.setting_groups import CheckpointerSettings

_log = structlog.stdlib.get_logger("headrace.writer")

#: A batch waits for so many turns of the event loop. Runs that are ready can add writes meanwhile:
#: one flush of many operations is cheaper than many flushes.
_TURNS = 6

#: The longest rest between two flushes of large values, in seconds.
_LONGEST_REST = 0.25

_STOPPED = "The server stopped before this was committed."


class Lane:
    """Operations leave it in the order in which they came.

    :param in_thread: its flushes talk to the database from a thread; see :class:`Flusher`. Between
        two of them the lane rests for as long as the last one took: Postgres writes its log in the
        order in which it came, so every small commit waits for the large values before it.
    :param on_settled: called with each operation that has settled.
    """

    def __init__(
        self,
        name: str,
        pool: SharedPool,
        flusher: Flusher,
        settings: CheckpointerSettings,
        *,
        acquire_timeout_seconds: float,
        tasks: Tasks,
        on_settled: Callable[[Operation], None],
        in_thread: bool = False,
    ) -> None:
        self._name = name
        self._flusher = flusher
        self._settings = settings
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._tasks = tasks
        self._on_settled = on_settled
        self._in_thread = in_thread
        self._queue: deque[Operation] = deque()
        self._hurry = Signal()
        self._flushing = False
        self._abandoned = False
        self._rests_until = 0.0

    def put(self, operation: Operation) -> None:
        """Queue the operation; the lane flushes it without another call."""
        if self._abandoned:
            self._release([operation], DatabaseUnavailable(_STOPPED))
            return
        self._queue.append(operation)
        if operation.awaited or len(self._queue) >= self._settings.max_batch_operations:
            self._hurry.set()
        if not self._flushing:
            self._flushing = True
            self._tasks.start(self._flush_until_empty(), name=f"flush-{self._name}")

    def hurry(self) -> None:
        """Flush soon: a caller waits for an operation that is queued here."""
        self._hurry.set()

    def abandon(self) -> None:
        """Let all queued operations fail, and all that come later. The flush in flight goes on."""
        self._abandoned = True
        while self._queue:
            self._release([self._queue.popleft()], DatabaseUnavailable(_STOPPED))

    async def _flush_until_empty(self) -> None:
        held = HeldConnection(self._pool, timeout_seconds=self._acquire_timeout_seconds)
        try:
            while self._queue:
                await self._linger()
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                await self._rest()
                started = perf_counter()
                await self._flush(self._next_batch(), held)
                taken = perf_counter() - started
                self._rests_until = perf_counter() + min(taken, _LONGEST_REST)
                await held.share()
        except asyncio.CancelledError:
            self.abandon()
            raise
        finally:
            self._flushing = False
            await held.give_back()

    async def _rest(self) -> None:
        rest = self._rests_until - perf_counter()
        if self._in_thread and rest > 0:
            await asyncio.sleep(rest)

    async def _flush(self, batch: Sequence[Operation], held: HeldConnection) -> None:
        try:
            await self._flusher.flush(batch, held, in_thread=self._in_thread)
        except asyncio.CancelledError:
            self._release(batch, DatabaseUnavailable(_STOPPED))
            raise
        except Exception as fault:
            # A defect of headrace. It must not end the lane, and no caller may wait for ever.
            _log.exception("flush_failed", operations=len(batch))
            self._release(batch, fault)
        else:
            for operation in batch:
                self._on_settled(operation)

    def _release(self, operations: Sequence[Operation], failure: BaseException) -> None:
        """Let go of ``operations``. Those that have not settled get ``failure``."""
        for operation in operations:
            if not operation.settled:
                operation.settle(failure)
            self._on_settled(operation)

    async def _linger(self) -> None:
        """Wait for more operations: for ``linger_seconds``, or until a caller waits for one."""
        if not self._hurry.is_set() and self._settings.linger_seconds:
            await self._hurry.wait(self._settings.linger_seconds)

    def _next_batch(self) -> list[Operation]:
        """As many operations as one flush may carry; at least one."""
        batch: list[Operation] = []
        size = 0
        while self._queue and len(batch) < self._settings.max_batch_operations:
            size += self._queue[0].size_bytes
            if batch and size > self._settings.max_batch_bytes:
                break
            batch.append(self._queue.popleft())
        if not self._queue:
            # While the queue has operations, a caller may wait for one of them.
            self._hurry.clear()
        return batch
