"""LangGraph's store on the shared pool, with all private names of its stores that headrace uses.

If LangGraph moves one, a test fails and names it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, cast

from langgraph.store.base import (
    ListNamespacesOp,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
    TTLConfig,
    _ensure_refresh,
)
from langgraph.store.base.batch import _dedupe_ops
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import _decode_ns_bytes, _row_to_search_item
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from headrace.checkpoints.store_roots import listed, without_scope
from headrace.checkpoints.upstream import cursor_on
from headrace.db.pool import SharedPool, shut
from headrace.db.row_sizes import size_of
from headrace.db.statements import statement

#: Where LangGraph's statements name the rows of all namespaces.
_ALL, _LISTED = "WHERE TRUE", "FROM store"


class QueuedStore(AsyncPostgresStore):
    """LangGraph's store, but a task of headrace takes the waiting operations.

    :param operation_timeout_seconds: a connection without an answer for this long is cut, and its
        operation fails with ``psycopg.OperationalError``.
    """

    __slots__ = ("_acquire_timeout_seconds", "_operation_timeout_seconds", "_pool")

    def __init__(
        self,
        pool: SharedPool,
        *,
        acquire_timeout_seconds: float,
        operation_timeout_seconds: float,
        ttl: TTLConfig,
    ) -> None:
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._operation_timeout_seconds = operation_timeout_seconds
        super().__init__(pool, ttl=ttl)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self._pool.connection(self._acquire_timeout_seconds) as connection:
            # Without this, psycopg waits for ever for a server that does not answer.
            silent = asyncio.get_running_loop().call_later(
                self._operation_timeout_seconds, shut, connection, context=Context()
            )
            try:
                async with cursor_on(
                    connection, pipeline=pipeline, supports_pipeline=self.supports_pipeline
                ) as cursor:
                    yield cursor
            finally:
                silent.cancel()

    async def submitted(self, op: Op) -> Any:
        """The result of one operation, which joins others that come at the same time."""
        self._ensure_task()
        future = self._loop.create_future()
        self.asked.put_nowait((future, op))
        return await future

    def _prepare_batch_search_queries(
        self, search_ops: Sequence[tuple[int, SearchOp]]
    ) -> tuple[list[tuple[str, list[Any]]], list[tuple[int, str]]]:
        """As LangGraph's, but a search of all namespaces leaves out those that have a scope."""
        queries, wanted = super()._prepare_batch_search_queries(search_ops)
        return [
            (query if op.namespace_prefix else _of_all(query), values)
            for (_, op), (query, values) in zip(search_ops, queries, strict=True)
        ], wanted

    def _get_batch_list_namespaces_queries(
        self, list_ops: Sequence[tuple[int, ListNamespacesOp]]
    ) -> list[tuple[str, Sequence[Any]]]:
        """As LangGraph's, but of one scope, or of the namespaces that have none."""
        found: list[tuple[str, Sequence[Any]]] = []
        for number, op in list_ops:
            rows, own, rest = listed(op)
            [(query, values)] = super()._get_batch_list_namespaces_queries([(number, rest)])
            if query.count(_LISTED) != 1:
                raise NotImplementedError("LangGraph lists namespaces in another way")
            query = query.replace(_LISTED, f"FROM ({rows}) AS store")
            # Its first two values are the depth.
            found.append((query, (*values[:2], *own, *values[2:])))
        return found

    async def measured(self, op: SearchOp, *, max_bytes: int) -> tuple[int, int]:
        """How many items a search would find, and the bytes of their values.

        :param max_bytes: the bytes that a page may have. Only a value that might be larger than its
            share of them is measured exactly.
        """
        [(query, parameters)], _ = self._prepare_batch_search_queries(
            [(0, op._replace(refresh_ttl=False))]
        )
        size = size_of(("value",), "page", share=str(max_bytes // max(op.limit, 1)))
        sizes = f"SELECT count(*) AS found, sum({size}) AS bytes FROM ({query}) AS page"  # noqa: S608 - upstream's statement
        async with self._cursor() as cursor:
            await cursor.execute(statement(sizes), parameters)
            row = await cursor.fetchone()
        assert row is not None
        return row["found"], int(row["bytes"] or 0)

    async def _batch_put_ops(
        self, put_ops: Sequence[tuple[int, PutOp]], cur: AsyncCursor[DictRow]
    ) -> None:
        await super()._batch_put_ops(put_ops, cur)
        await self.index_puts([op for _, op in put_ops], cur)

    async def index_puts(self, puts: Sequence[PutOp], cursor: AsyncCursor[DictRow]) -> None:
        """Write what the index keeps of these puts. Their items are written in this transaction."""
        raise NotImplementedError

    def filter_conditions(self, given: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
        """LangGraph's SQL for a filter, which begins with AND, and its parameters.

        :raises ValueError: LangGraph does not know an operator of it.
        """
        conditions: list[str] = []
        values: list[Any] = []
        for key, wanted in (given or {}).items():
            operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            for operator, value in operators.items():
                condition, parameters = self._get_filter_condition(key, operator, value)
                conditions.append(f" AND {condition}")
                values += parameters
        return "".join(conditions), values

    def prolongs(self, refresh_ttl: bool | None) -> bool:
        """Whether a read begins the time to live of an item anew.

        :param refresh_ttl: what the read says; None: it leaves it to the store.
        """
        return _ensure_refresh(self.ttl_config, refresh_ttl)

    def _ensure_task(self) -> None:
        # LangGraph's store calls this before each operation, and in its ``__init__``.
        if self._task is None or self._task.done():
            self._task = self.taking()

    def taking(self) -> asyncio.Task[None]:
        """Start the task that takes operations from :attr:`asked` for ever."""
        raise NotImplementedError

    @property
    def asked(self) -> "asyncio.Queue[tuple[asyncio.Future[Any], Op]]":
        """The operations that no task has taken yet."""
        return self._aqueue

    def stop_taking(self) -> None:
        """End the task. LangGraph leaves it to the garbage collector."""
        if self._task is not None and not self._task.done():
            self._task.cancel()


def _of_all(query: str) -> str:
    if query.count(_ALL) != 1:
        raise NotImplementedError("LangGraph searches all namespaces in another way")
    return query.replace(_ALL, f"WHERE {without_scope('store')}")


def found_item(row: DictRow) -> SearchItem:
    """The item of a row with ``prefix``, ``key``, ``value``, both times and ``score``."""
    return _row_to_search_item(_decode_ns_bytes(row["prefix"]), cast("Any", row))


def deduplicated(ops: list[Op]) -> tuple[list[int] | None, list[Op]]:
    """The operations without repetitions, and for each given one the position of its result.

    Equal reads become one. The last put to a key replaces the others.
    """
    return _dedupe_ops(ops)
