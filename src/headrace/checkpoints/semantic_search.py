"""Searches the store by meaning: which items have the vectors that are closest to that of a query.

How a search is done does not depend on what Postgres knows about the tables. Below a small
namespace all items are compared. Otherwise the index on the vectors finds candidates. It looks at
the closest vectors of the whole store first, and passes over those of other namespaces and those
that the filter leaves out. If it gives up before the page is full, all items are compared.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from math import isqrt
from time import perf_counter
from typing import Any

from headrace.checkpoints.store_roots import scope_of_prefix
from headrace.checkpoints.vector_sql import PROLONG, READ_ITEMS, HitPage, Query, Scope, VectorSql
from headrace.db.planner import INDEX_SETTINGS
from headrace.db.pool import Connection, SharedPool, shut
from headrace.db.statements import statement
from headrace.db.vector_index import VectorIndex
from headrace.index_settings import IndexSettings
from headrace.observability.index_metrics import IndexMetrics
from headrace.shares import Gate, Places

#: Connections that searches use at once.
_CONNECTIONS = 4

#: pgvector looks at most at so many candidates at once.
_MOST_CANDIDATES = 1000

#: The number of lists that pgvector makes by itself.
_DEFAULT_LISTS = 100

_USE_KEYS = statement(f"SELECT {INDEX_SETTINGS}")
_USE_TABLES = statement(
    "SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true),"
    " set_config('enable_mergejoin', 'on', true), set_config('enable_sort', 'on', true)"
)
#: A sort would be a way around the index. After a first scan, the index goes on with vectors that
#: are further away (pgvector's iterative scan).
_USE_VECTORS = statement(
    f"SELECT {INDEX_SETTINGS}, set_config('enable_sort', 'off', true),"
    " set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " set_config('ivfflat.iterative_scan', 'relaxed_order', true),"
    " set_config('hnsw.ef_search', %s, true), set_config('ivfflat.probes', %s, true)"
)


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that a search has found, without its value.

    :ivar size_bytes: of its value as JSON, or at least of the stored value.
    """

    prefix: str
    key: str
    score: float
    size_bytes: int


class SemanticSearch:
    """One per process.

    :param home: the schema of the extension, quoted.
    :param operation_timeout_seconds: a connection without an answer for this long is cut.
    """

    def __init__(
        self,
        pool: SharedPool,
        index: VectorIndex,
        home: str,
        settings: IndexSettings,
        metrics: IndexMetrics,
        *,
        acquire_timeout_seconds: float,
        operation_timeout_seconds: float,
    ) -> None:
        self._pool = pool
        self._index = index
        self._sql = VectorSql(index, home)
        self._settings = settings
        self._metrics = metrics
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._operation_timeout_seconds = operation_timeout_seconds
        #: The scope that uses fewest comes first.
        self._places = Gate(Places(_CONNECTIONS), timeout_seconds=acquire_timeout_seconds)

    async def hits(self, scope: Scope, vector: str, page: HitPage) -> list[Hit]:
        """The page of items that are closest to ``vector``, closest first."""
        if page.limit <= 0:
            return []
        started = perf_counter()
        async with self._connection(scope.namespace) as connection:
            plan, rows = await self._rows(connection, scope, vector, page)
        self._metrics.observe_search(plan, perf_counter() - started)
        score = self._index.score
        return [
            Hit(prefix, key, score(distance), int(size)) for prefix, key, distance, size in rows
        ]

    async def read(self, hits: Sequence[Hit], *, prolong: bool) -> list[dict[str, Any]]:
        """The rows of these items with their ``score``, in this order. Items that are deleted
        meanwhile are left out.

        :param prolong: the time to live of the items begins anew.
        """
        if not hits:
            return []
        keys = [[hit.prefix for hit in hits], [hit.key for hit in hits]]
        async with self._connection(hits[0].prefix) as connection:
            await connection.execute(_USE_KEYS)
            cursor = await connection.execute(READ_ITEMS, keys)
            found = {(row[0], row[1]): row for row in await cursor.fetchall()}
            if prolong and found:
                await connection.execute(PROLONG, keys)
        names = ("prefix", "key", "value", "created_at", "updated_at", "score")
        return [
            dict(zip(names, (*found[hit.prefix, hit.key], hit.score), strict=True))
            for hit in hits
            if (hit.prefix, hit.key) in found
        ]

    async def _rows(
        self, connection: Connection, scope: Scope, vector: str, page: HitPage
    ) -> tuple[str, list[Any]]:
        """How the search was done, and the rows that it has found."""
        most = self._settings.exact_items
        await connection.execute(_USE_KEYS)
        ((count,),) = await _fetched(connection, self._sql.count(scope, most + 1))
        if count <= most:
            return "narrow", await _fetched(connection, self._sql.narrow(scope, vector, page))
        candidates = self._candidates(page)
        if self._index.kind != "flat" and candidates <= _MOST_CANDIDATES:
            await connection.execute(_USE_VECTORS, self._effort(candidates))
            query = self._sql.indexed(scope, vector, page, candidates=candidates)
            rows = await _fetched(connection, query)
            if len(rows) == page.limit:
                return "index", rows
        await connection.execute(_USE_TABLES)
        return "exact", await _fetched(connection, self._sql.exact(scope, vector, page))

    def _candidates(self, page: HitPage) -> int:
        """How many vectors the index should find: an item may have several."""
        fields = 2 * len(self._index.fields)
        return (page.limit + page.offset) * fields

    def _effort(self, candidates: int) -> tuple[str, str]:
        """``hnsw.ef_search`` and ``ivfflat.probes``."""
        search = min(max(self._settings.candidates, candidates), _MOST_CANDIDATES)
        lists = dict(self._index.options).get("lists", _DEFAULT_LISTS)
        return str(search), str(max(1, isqrt(lists)))

    @asynccontextmanager
    async def _connection(self, prefix: str) -> AsyncIterator[Connection]:
        """A connection in a transaction, for settings that end with it.

        :param prefix: of the namespace that is searched.
        """
        async with (
            self._places.place(scope_of_prefix(prefix)),
            self._pool.connection(self._acquire_timeout_seconds) as connection,
        ):
            # Without this, psycopg waits for ever for a server that does not answer.
            silent = asyncio.get_running_loop().call_later(
                self._operation_timeout_seconds, shut, connection, context=Context()
            )
            try:
                # What comes before the first result is sent together with its statement.
                async with connection.pipeline(), connection.transaction():
                    yield connection
            finally:
                silent.cancel()


async def _fetched(connection: Connection, query: Query) -> list[Any]:
    cursor = await connection.execute(query.text, query.values)
    return await cursor.fetchall()
