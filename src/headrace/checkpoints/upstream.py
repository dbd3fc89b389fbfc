"""Every private name of LangGraph and its Postgres saver that headrace uses, in one place.

A test fails by that name when upstream moves one.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.graph.message import _messages_delta_reducer
from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from headrace.db.pool import SharedPool

#: LangGraph gives an id to every message written to a ``DeltaChannel`` that has this reducer, in
#: whatever form it comes.
GIVES_IDS: Callable[..., Any] = _messages_delta_reducer


class PooledSaver(AsyncPostgresSaver):
    """Upstream's saver without the lock that makes a pool of ten work as one (N3).

    ``_cursor`` is upstream's single way to the database; overriding it keeps its SQL, serializer
    and semantics.
    """

    def __init__(self, pool: SharedPool, *, acquire_timeout_seconds: float) -> None:
        super().__init__(pool)
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self._pool.connection(self._acquire_timeout_seconds) as connection:
            if not pipeline:
                async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor
            elif self.supports_pipeline:
                async with (
                    connection.pipeline(),
                    connection.cursor(binary=True, row_factory=dict_row) as cursor,
                ):
                    yield cursor
            else:
                async with (
                    connection.transaction(),
                    connection.cursor(binary=True, row_factory=dict_row) as cursor,
                ):
                    yield cursor


def without_snapshot(value: Any) -> Any:
    """``value`` itself, where savers hand it out wrapped as the whole value of a DeltaChannel."""
    return value.value if isinstance(value, _DeltaSnapshot) else value


async def stop_store(store: AsyncPostgresStore) -> None:
    """End the store's batching task, which upstream leaves to the garbage collector."""
    task = store._task
    if task is not None and not task.done():
        task.cancel()
