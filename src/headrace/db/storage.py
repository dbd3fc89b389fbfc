"""What tables and threads take, for the command ``headrace db storage`` and for ``/metrics``.

A thread's bytes are those of its checkpoints as Postgres stores them: after compression, without
indexes. ``pg_column_size`` does not read a large value itself, which Postgres keeps elsewhere. The
command costs one pass over the rows of the three tables of checkpoints. It reads a table with more
than ``_WHOLE_BYTES`` of rows in part. ``/metrics`` costs one look at each row of a few threads.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg.errors import LockNotAvailable, QueryCanceled

from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.pool import Connection
from headrace.db.probe import ask_once
from headrace.db.statements import schema_of, statement, use_schema
from headrace.db.table_statistics import read_tables
from headrace.db.transactions import bounded_transaction
from headrace.observability.figures import TableFigures

T = TypeVar("T")

#: How long a statement of the command waits for a lock.
_LOCK_SECONDS = 2.0

#: A table with more bytes of rows is read in part, up to about this size.
_WHOLE_BYTES = 512 * 1024 * 1024

#: The tables of checkpoints. Their names are those of the parameters of ``_LARGEST``.
_TABLES = ("checkpoint_blobs", "checkpoint_writes", "checkpoints")

_HEAP_BYTES = statement("SELECT pg_relation_size(to_regclass(%s))")

# A sample is one of pages. A thread of few pages may be missing from it, or count too much.
_LARGEST = statement("""
SELECT thread_id, sum(bytes)::bigint FROM (
  SELECT thread_id, pg_column_size(blob) * 100 / %(checkpoint_blobs)s::float8 AS bytes
  FROM checkpoint_blobs TABLESAMPLE SYSTEM (%(checkpoint_blobs)s::float4)
  UNION ALL
  SELECT thread_id, pg_column_size(blob) * 100 / %(checkpoint_writes)s::float8
  FROM checkpoint_writes TABLESAMPLE SYSTEM (%(checkpoint_writes)s::float4)
  UNION ALL
  SELECT thread_id, (pg_column_size(checkpoint) + pg_column_size(metadata)) * 100
    / %(checkpoints)s::float8
  FROM checkpoints TABLESAMPLE SYSTEM (%(checkpoints)s::float4)
) AS row_sizes
GROUP BY thread_id ORDER BY 2 DESC, thread_id LIMIT %(threads)s
""")


# Ids of runs rise with time, so the primary key of runs gives the latest ones.
_LARGEST_RECENT = statement("""
WITH recent AS (
  SELECT DISTINCT thread_id FROM (
    SELECT thread_id FROM runs ORDER BY run_id DESC LIMIT %(runs)s
  ) AS latest
)
SELECT coalesce(max(
  (SELECT coalesce(sum(pg_column_size(b.blob)), 0)
   FROM checkpoint_blobs AS b WHERE b.thread_id = recent.thread_id)
  + (SELECT coalesce(sum(pg_column_size(w.blob)), 0)
     FROM checkpoint_writes AS w WHERE w.thread_id = recent.thread_id)
  + (SELECT coalesce(sum(pg_column_size(c.checkpoint) + pg_column_size(c.metadata)), 0)
     FROM checkpoints AS c WHERE c.thread_id = recent.thread_id)
), 0)::bigint FROM recent
""")


@dataclass(frozen=True, slots=True)
class Storage:
    """
    :ivar tables: None if a table was locked, or the time limit was reached; ``threads`` likewise.
    :ivar threads: the largest threads with their bytes, largest first.
    :ivar sampled: by table: the percent of its rows that was read, where that is not all.
    """

    tables: Sequence[TableFigures] | None
    threads: Sequence[tuple[str, int]] | None
    sampled: dict[str, float]


def read_storage(settings: DatabaseSettings, *, threads: int, timeout_seconds: float) -> Storage:
    """Measure over a new connection, on any revision. For commands: it starts an event loop.

    :param timeout_seconds: bound of each of the statements.
    :raises StartupRefusal: HR301 the server cannot be reached, or does not answer.
    """

    async def read(connection: Connection) -> Storage:
        use_schema(connection, settings.schema_name)
        tables = await _bounded(connection, timeout_seconds, read_tables)
        sampled, largest = {}, None
        found = await _bounded(
            connection, timeout_seconds, lambda connection: _largest(connection, threads)
        )
        if found is not None:
            largest, parts = found
            sampled = {name: percent for name, percent in parts.items() if percent < 100}
        return Storage(tables, largest, sampled)

    login = login_of(settings)
    return asyncio.run(ask_once(login, read, timeout_seconds=3 * timeout_seconds + 10))


async def largest_recent_bytes(connection: Connection, *, runs: int) -> int:
    """The bytes of the largest thread among those of the latest ``runs`` runs; 0 without runs."""
    row = await (
        await connection.execute(_LARGEST_RECENT, {"runs": runs}, prepare=False)
    ).fetchone()
    assert row is not None
    return int(row[0])


async def _bounded(
    connection: Connection,
    timeout_seconds: float,
    read: Callable[[Connection], Coroutine[Any, Any, T]],
) -> T | None:
    """The result of ``read``; None if it takes too long, or if a table is locked."""
    try:
        async with bounded_transaction(
            connection, statement_seconds=timeout_seconds, lock_seconds=_LOCK_SECONDS
        ):
            return await read(connection)
    except (QueryCanceled, LockNotAvailable):
        return None


async def _largest(
    connection: Connection, threads: int
) -> tuple[list[tuple[str, int]], dict[str, float]]:
    """The largest threads, and by table the percent that was read."""
    schema = schema_of(connection)
    percents: dict[str, float] = {}
    for name in _TABLES:
        place = f'"{schema}"."{name}"' if schema else name
        row = await (await connection.execute(_HEAP_BYTES, (place,))).fetchone()
        heap = row[0] if row is not None and row[0] else 0
        percents[name] = min(100.0, 100.0 * _WHOLE_BYTES / max(heap, 1))
    cursor = await connection.execute(_LARGEST, {**percents, "threads": threads})
    return await cursor.fetchall(), percents
