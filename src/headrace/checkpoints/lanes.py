"""The lanes of the group-commit writer: one queue, and flushes that take from it.

A lane flushes one batch at a time. While its flush is in flight, the next batch forms. As long as
flushes are short, one lane does all the work: few large flushes are cheaper than many small ones. A
flush that takes long waits for something, such as a lock. Then another lane takes what is queued.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from time import perf_counter

import structlog

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.flush import Flusher
from headrace.checkpoints.operations import Operation
from headrace.db.held_connection import HeldConnection
from headrace.db.pool import SharedPool
from headrace.lifecycle import Signal, Tasks
from headrace.unavailable_errors import DatabaseUnavailable

_log = structlog.stdlib.get_logger("headrace.writer")

#: A batch waits for up to so many turns of the event loop. Runs that are ready can add writes
#: meanwhile.
_TURNS = 12
#: After a shorter turn, the loop has nothing to do: nobody is about to add a write.
_IDLE_TURN_SECONDS = 0.000_05
#: A flush that takes longer is stuck.
_STUCK_SECONDS = 0.02

#: The longest rest between two flushes of large values, in seconds.
_LONGEST_REST = 0.25

_STOPPED = "The server stopped before this was committed."


class Lanes:
    """Operations of one thread are flushed in the order in which they came, one flush at a time.

    :param count: flushes in flight at once, at most.
    :param in_thread: flushes talk to the database from a thread; see :class:`Flusher`.
    :param yields_to: lanes of small values. If they have flushed meanwhile, a lane of this object
        rests after its flush for as long as it took: Postgres writes its log in the order in which
        it came, so every small commit waits for the large values before it.
    :param on_settled: called with each operation that has settled.
    """

    def __init__(
        self,
        name: str,
        pool: SharedPool,
        flusher: Flusher,
        settings: CheckpointerSettings,
        *,
        count: int,
        acquire_timeout_seconds: float,
        tasks: Tasks,
        on_settled: Callable[[Operation], None],
        in_thread: bool = False,
        yields_to: "Lanes | None" = None,
    ) -> None:
        self._name = name
        self._flusher = flusher
        self._settings = settings
        self._pool = pool
        self._count = count
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._tasks = tasks
        self._on_settled = on_settled
        self._in_thread = in_thread
        self._queue: deque[Operation] = deque()
        #: Threads of the flushes in flight. Their next operations stay in the queue.
        self._in_flight: set[str] = set()
        #: Lanes that are at work, and those of them that are stuck.
        self._working = 0
        self._stuck = 0
        self._hurry = Signal()
        self._abandoned = False
        self._yields_to = yields_to
        self._rests_until = 0.0
        #: Flushes that have begun.
        self.flushes = 0

    def put(self, operation: Operation) -> None:
        """Queue the operation; it is flushed without another call."""
        if self._abandoned:
            self._release([operation], DatabaseUnavailable(_STOPPED))
            return
        self._queue.append(operation)
        if operation.awaited or len(self._queue) >= self._settings.max_batch_operations:
            self._hurry.set()
        self._open_lane()

    def hurry(self) -> None:
        """Flush soon: a caller waits for an operation that is queued here."""
        self._hurry.set()

    def abandon(self) -> None:
        """Let all queued operations fail, and all that come later. Flushes in flight go on."""
        self._abandoned = True
        while self._queue:
            self._release([self._queue.popleft()], DatabaseUnavailable(_STOPPED))

    def _open_lane(self) -> None:
        """Start a lane if none takes from the queue now, and one is left."""
        if self._working == self._stuck and self._working < self._count:
            self._working += 1
            self._tasks.start(self._flush_until_empty(), name=f"flush-{self._name}")

    async def _flush_until_empty(self) -> None:
        held = HeldConnection(self._pool, timeout_seconds=self._acquire_timeout_seconds)
        try:
            while self._queue:
                await self._linger()
                await self._let_others_add()
                await self._rest()
                if not (batch := self._next_batch()):
                    break  # Everything belongs to threads whose flush is stuck in another lane.
                await self._flush_and_yield(batch, held)
                await held.share()
        except asyncio.CancelledError:
            self.abandon()
            raise
        finally:
            self._working -= 1
            await held.give_back()

    async def _rest(self) -> None:
        rest = self._rests_until - perf_counter()
        if rest > 0:
            await asyncio.sleep(rest)

    async def _flush_and_yield(self, batch: Sequence[Operation], held: HeldConnection) -> None:
        others = self._yields_to
        started, before = perf_counter(), others.flushes if others is not None else 0
        await self._flush(batch, held)
        if others is not None and others.flushes > before:
            ended = perf_counter()
            self._rests_until = ended + min(ended - started, _LONGEST_REST)

    async def _flush(self, batch: Sequence[Operation], held: HeldConnection) -> None:
        self.flushes += 1
        threads = {operation.thread_id for operation in batch}
        self._in_flight |= threads
        flight = _Flight()
        timer = asyncio.get_running_loop().call_later(
            _STUCK_SECONDS, self._note_stuck, flight, context=Context()
        )
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
        finally:
            timer.cancel()
            self._stuck -= flight.stuck
            self._in_flight -= threads

    def _note_stuck(self, flight: "_Flight") -> None:
        flight.stuck = True
        self._stuck += 1
        if self._queue:
            self._open_lane()

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

    async def _let_others_add(self) -> None:
        began = perf_counter()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            ended = perf_counter()
            if ended - began < _IDLE_TURN_SECONDS:
                return
            began = ended

    def _next_batch(self) -> list[Operation]:
        """As many operations as one flush may carry, without those of threads in flight."""
        batch: list[Operation] = []
        kept: list[Operation] = []
        size = 0
        while self._queue and len(batch) < self._settings.max_batch_operations:
            operation = self._queue[0]
            if operation.thread_id in self._in_flight:
                kept.append(self._queue.popleft())
                continue
            size += operation.size_bytes
            if batch and size > self._settings.max_batch_bytes:
                break
            batch.append(self._queue.popleft())
        self._queue.extendleft(reversed(kept))
        if not self._queue:
            # While the queue has operations, a caller may wait for one of them.
            self._hurry.clear()
        return batch


class _Flight:
    """A flush in flight."""

    __slots__ = ("stuck",)

    def __init__(self) -> None:
        self.stuck = False
