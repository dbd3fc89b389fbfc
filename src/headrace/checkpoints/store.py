"""The store of all graphs of a process: LangGraph's store on the shared pool, with timing.

LangGraph's own store has one batch under way per process. All other callers wait meanwhile, and its
searches take one round trip after the other. One value that Postgres refuses fails all operations
of its batch. Here reads use a few connections. Batches of writes follow each other, so that the
last put wins. An operation that Postgres refuses fails alone.

With a semantic index, a put first waits for the vectors of its item, and a search by meaning for
that of its query. Neither holds a connection or delays others meanwhile.

A batch that meets a dead connection, a silent server or no server is repeated, also with puts: if
the answer was lost, a put may write its item twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any

import psycopg
import structlog
from langgraph.store.base import (
    InvalidNamespaceError,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from psycopg import AsyncCursor

from headrace.checkpoints.indexed_puts import IndexedPuts
from headrace.checkpoints.queued_store import QueuedStore, deduplicated, found_item
from headrace.checkpoints.retry import retried
from headrace.checkpoints.semantic_search import Hit
from headrace.checkpoints.store_index import IndexedItem, ItemKey, StoreIndex, is_semantic
from headrace.checkpoints.store_roots import refuse_root
from headrace.checkpoints.timing import Observe, timed
from headrace.checkpoints.vector_sql import HitPage, Scope
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import IndexChanged

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

_NO_ITEMS: Mapping[ItemKey, IndexedItem] = MappingProxyType({})

#: What the index keeps of the items that the calling task writes.
_written: ContextVar[Mapping[ItemKey, IndexedItem]] = ContextVar(
    "headrace_indexed_items", default=_NO_ITEMS
)

#: For a search whose sizes nobody wants to know.
_ANY_BYTES = 2**40


class Store(QueuedStore):
    """One per process; needs a running event loop.

    :param operation_timeout_seconds: a batch without an answer for this long is repeated.
    :param retry_seconds: how long a batch is repeated while the database is away.
    :param index: None: LangGraph's store ignores ``query`` of a search and ``index`` of a put.
    """

    __slots__ = (
        "_indexed_puts",
        "_puts",
        "_reads",
        "_retry_seconds",
        "_tasks",
        "index",
        "observe",
    )

    def __init__(
        self,
        pool: SharedPool,
        *,
        observe: Observe,
        ttl: TTLConfig | None = None,
        acquire_timeout_seconds: float = 30.0,
        operation_timeout_seconds: float = 10.0,
        retry_seconds: float = 30.0,
        index: StoreIndex | None = None,
    ) -> None:
        self.observe = observe
        self.index = index
        self._retry_seconds = retry_seconds
        self._tasks = Tasks()
        self._reads = _Batches(self._answer, self._tasks, limit=_READ_BATCHES)
        self._puts = _Batches(self._answer, self._tasks, limit=1)
        self._indexed_puts = (
            None if index is None else IndexedPuts(index, self._tasks, self._puts.add)
        )
        super().__init__(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            operation_timeout_seconds=operation_timeout_seconds,
            ttl=ttl or _NO_DEFAULT_TTL,
        )

    async def setup(self) -> None:
        """Does nothing: only ``headrace db upgrade`` creates tables."""

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do ``ops`` together, and repeat them while the database is away.

        :raises DatabaseUnavailable: the database was away for longer than ``retry_seconds``.
        :raises EmbeddingFailed: there is an index, and its model failed or took too long.
        """
        given = list(ops)
        for op in given:
            refuse_root(op)
        if self.index is None:
            return await self._do(given, _NO_ITEMS)
        puts = [op for op in given if isinstance(op, PutOp)]
        made = await self._indexed_items(self.index, puts)
        items = {
            (op.namespace, op.key): item
            for op, item in zip(puts, made, strict=True)
            if item is not None
        }
        plain = iter(await self._do([op for op in given if not is_semantic(op)], items))
        return [
            await self._find(op) if isinstance(op, SearchOp) and is_semantic(op) else next(plain)
            for op in given
        ]

    async def _indexed_items(
        self, index: StoreIndex, puts: Sequence[PutOp]
    ) -> list[IndexedItem | None]:
        """What the index keeps of the items of all puts. Once one fails, no other is made."""
        tasks = [self._tasks.start(index.item(op), name="store-item") for op in puts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    @timed("batch")
    async def _do(self, ops: Sequence[Op], items: Mapping[ItemKey, IndexedItem]) -> list[Result]:
        """Do ``ops``. None of them needs the model any more."""
        if not ops:
            return []
        whole = [_with_whole_minutes(op) for op in ops]
        upstreams = super().abatch
        before = _written.set(items)
        try:
            with _vectors_that_fit():
                return await retried(
                    lambda: upstreams(whole), seconds=self._retry_seconds, operation="store_batch"
                )
        finally:
            _written.reset(before)

    async def index_puts(self, puts: Sequence[PutOp], cursor: AsyncCursor[Any]) -> None:
        """Write what the index keeps of these puts, in the transaction of their items."""
        if self.index is not None:
            await self.index.write(puts, _written.get(), cursor)

    async def hits(self, op: SearchOp, *, max_bytes: int = _ANY_BYTES) -> list[Hit]:
        """The items that a search by meaning finds, closest first. There must be an index.

        :param max_bytes: the bytes that the values of a page may have, for their sizes.
        :raises EmbeddingRefused: the model refuses the query.
        :raises EmbeddingFailed: the model failed, or took too long.
        :raises DatabaseUnavailable: the database was away for longer than ``retry_seconds``.
        """
        assert self.index is not None
        refuse_root(op)
        search = self.index.search
        conditions, values = self.filter_conditions(op.filter)
        scope = Scope(".".join(op.namespace_prefix), conditions, values)
        page = HitPage(op.limit, op.offset, max_bytes)
        vector = await self.index.query(op)
        with _vectors_that_fit():
            return await retried(
                lambda: search.hits(scope, vector, page),
                seconds=self._retry_seconds,
                operation="store_search",
            )

    async def found(self, hits: Sequence[Hit], *, refresh_ttl: bool | None) -> list[SearchItem]:
        """The items of these hits, in their order; those that are deleted meanwhile are left out.

        :param refresh_ttl: whether their time to live begins anew; None: as the store is set.
        """
        assert self.index is not None
        search = self.index.search
        rows = await retried(
            lambda: search.read(hits, prolong=self.prolongs(refresh_ttl)),
            seconds=self._retry_seconds,
            operation="store_read",
        )
        return [found_item(row) for row in rows]

    async def _find(self, op: SearchOp) -> list[SearchItem]:
        return await self.found(await self.hits(op), refresh_ttl=op.refresh_ttl)

    async def size(self, op: SearchOp, *, max_bytes: int) -> tuple[int, int]:
        """As :meth:`QueuedStore.measured`, but repeated while the database is away."""
        refuse_root(op)
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
        if self.index is not None:
            await self.index.embedder.close()

    def taking(self) -> asyncio.Task[None]:
        return self._tasks.start(self._distribute(), name="store")

    async def _distribute(self) -> None:
        while True:
            self._add(await self.asked.get())

    def _add(self, asked: Asked) -> None:
        try:
            refuse_root(asked[1])
        except InvalidNamespaceError as error:
            if not asked[0].done():
                asked[0].set_exception(error)
            return
        if self._indexed_puts is not None and isinstance(asked[1], PutOp):
            self._indexed_puts.add(asked)
        elif self.index is not None and is_semantic(asked[1]):
            self._tasks.start(self._answer_search(asked), name="store-search", context=Context())
        else:
            batches = self._puts if isinstance(asked[1], PutOp) else self._reads
            batches.add(asked)

    async def _answer_search(self, asked: Asked) -> None:
        future, op = asked
        assert isinstance(op, SearchOp)
        try:
            found = await self._find(op)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(found)

    async def _answer(self, batch: Sequence[Asked]) -> None:
        wanted = [asked for asked in batch if not asked[0].done()]
        if not wanted:
            return
        try:
            # Inside the try, because a user's key may have no hash, or raise when it is compared.
            positions, ops = deduplicated([op for _, op in wanted])
            puts = self._indexed_puts
            results = await self._do(ops, puts.items_of(wanted) if puts else _NO_ITEMS)
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


@contextmanager
def _vectors_that_fit() -> Iterator[None]:
    """:raises IndexChanged: the vectors in the database have another size."""
    try:
        yield
    except psycopg.DataError as error:
        # pgvector has no code of its own for it.
        if "dimensions" in str(error):
            raise IndexChanged from error
        raise


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
