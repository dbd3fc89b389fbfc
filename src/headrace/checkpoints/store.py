"""The store of all graphs of a process: LangGraph's store on the shared pool, with timing.

LangGraph's own store has one batch under way per process. All other callers wait meanwhile, and its
searches take one round trip after the other. One value that Postgres refuses fails all operations
of its batch. Here reads use a few connections. Batches of writes follow each other, so that the
last put wins. An operation that Postgres refuses fails alone.

A batch that meets a dead connection, a silent server or no server is repeated, also with puts: if
the answer was lost, a put may write its item twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import ceil, isfinite
from typing import Any

import psycopg
import structlog
from langgraph.store.base import Op, PutOp, Result, SearchOp, TTLConfig

from headrace.checkpoints.retry import retried
from headrace.checkpoints.timing import Observe, timed
from headrace.checkpoints.upstream import QueuedStore, deduplicated
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.store")

#: An operation, and the future of its result.
Asked = tuple["asyncio.Future[Any]", Op]

#: Connections that reads use at once.
_READ_BATCHES = 4

#: Up to so many reads go together: a second connection would not help.
_SMALLEST_SHARE = 4

#: Errors of a statement, not of the server: another statement may succeed. The causes of the last
#: three: a key too long for an index, a filter that LangGraph does not know, a value that is no
#: JSON.
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.errors.ProgramLimitExceeded,
    ValueError,
    TypeError,
)

#: Expired items are never returned, whatever the time to live is.
_NO_DEFAULT_TTL: TTLConfig = {"omit_expired": True}


class Store(QueuedStore):
    """One per process; needs a running event loop.

    :param operation_timeout_seconds: a batch without an answer for this long is repeated.
    :param retry_seconds: how long a batch is repeated while the database is away.
    """

    __slots__ = ("_puts", "_reads", "_retry_seconds", "_tasks", "observe")

    def __init__(
        self,
        pool: SharedPool,
        *,
        observe: Observe,
        ttl: TTLConfig | None = None,
        acquire_timeout_seconds: float = 30.0,
        operation_timeout_seconds: float = 10.0,
        retry_seconds: float = 30.0,
    ) -> None:
        self.observe = observe
        self._retry_seconds = retry_seconds
        self._tasks = Tasks()
        self._reads = _Batches(self._answer, self._tasks, limit=_READ_BATCHES)
        self._puts = _Batches(self._answer, self._tasks, limit=1)
        super().__init__(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            operation_timeout_seconds=operation_timeout_seconds,
            ttl=ttl or _NO_DEFAULT_TTL,
        )

    async def setup(self) -> None:
        """Does nothing: only ``headrace db upgrade`` creates tables."""

    @timed("batch")
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do ``ops`` together, and repeat them while the database is away.

        :raises DatabaseUnavailable: the database was away for longer than ``retry_seconds``.
        """
        whole = [_with_whole_minutes(op) for op in ops]
        upstreams = super().abatch
        return await retried(
            lambda: upstreams(whole), seconds=self._retry_seconds, operation="store_batch"
        )

    async def size(self, op: SearchOp, *, max_bytes: int) -> tuple[int, int]:
        """As :meth:`QueuedStore.measured`, but repeated while the database is away."""
        return await retried(
            lambda: self.measured(op, max_bytes=max_bytes),
            seconds=self._retry_seconds,
            operation="store_size",
        )

    async def close(self) -> None:
        """Answer the waiting operations, then end."""
        self.stop_taking()
        while not self.asked.empty():
            self._add(self.asked.get_nowait())
        await self._tasks.join()

    def taking(self) -> asyncio.Task[None]:
        return self._tasks.start(self._distribute(), name="store")

    async def _distribute(self) -> None:
        while True:
            self._add(await self.asked.get())

    def _add(self, asked: Asked) -> None:
        batches = self._puts if isinstance(asked[1], PutOp) else self._reads
        batches.add(asked)

    async def _answer(self, batch: Sequence[Asked]) -> None:
        wanted = [asked for asked in batch if not asked[0].done()]
        if not wanted:
            return
        try:
            # Inside the try, because a user's key may have no hash, or raise when it is compared.
            positions, ops = deduplicated([op for _, op in wanted])
            results = await self.abatch(ops)
        except asyncio.CancelledError:
            for waiting, _ in wanted:
                waiting.cancel()
            raise
        except BaseException as error:
            # The user's embeddings may raise anything: no caller may be left waiting.
            if len(wanted) > 1 and isinstance(error, _REFUSALS):
                for asked in wanted:
                    await self._answer([asked])
                return
            _log.warning("store_batch_failed", operations=len(wanted), exc_info=error)
            for waiting, _ in wanted:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        for number, (waiting, _) in enumerate(wanted):
            if not waiting.done():
                waiting.set_result(results[number if positions is None else positions[number]])


def _with_whole_minutes(op: Op) -> Op:
    """The operation with its time to live rounded up to whole minutes.

    The table keeps whole minutes. Half a minute would become zero when the item is read.
    """
    if isinstance(op, PutOp) and op.ttl is not None and isfinite(op.ttl):
        return op._replace(ttl=float(ceil(op.ttl)))
    return op


class _Batches:
    """Waiting operations, and up to ``limit`` batches under way."""

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Awaitable[None]],
        tasks: Tasks,
        *,
        limit: int,
    ) -> None:
        self._answer = answer
        self._tasks = tasks
        self._limit = limit
        self._waiting: deque[Asked] = deque()
        self._running = 0

    def add(self, asked: Asked) -> None:
        """Put the operation into the next batch, with others of this turn of the event loop."""
        self._waiting.append(asked)
        if self._running < min(self._limit, ceil(len(self._waiting) / _SMALLEST_SHARE)):
            self._running += 1
            self._tasks.start(self._run(), name="store-batch")

    async def _run(self) -> None:
        try:
            while self._waiting:
                share = max(_SMALLEST_SHARE, ceil(len(self._waiting) / self._limit))
                count = len(self._waiting) if self._limit == 1 else share
                batch = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
                await self._answer(batch)
        finally:
            self._running -= 1
