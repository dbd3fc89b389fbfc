"""Transactions that lock rows in one statement and change them in the next, or have time limits.

Their statements use indexes (db/planner.py).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import LockNotAvailable

from headrace.db.faults import translated_faults
from headrace.db.planner import INDEX_SETTINGS
from headrace.db.pool import Connection, SharedPool

#: For this transaction alone: a pooler may give the next one to another session.
_LIMITS = f"""
SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),
  {INDEX_SETTINGS}
"""

_LOCKING = f"SELECT set_config('lock_timeout', %s, true), {INDEX_SETTINGS}"
_LOCKING_ONLY = "SELECT set_config('lock_timeout', %s, true)"


@asynccontextmanager
async def locking_transaction(
    pool: SharedPool,
    *,
    lock_timeout_seconds: float,
    pipelined: bool = True,
    indexed: bool = True,
) -> AsyncIterator[Connection]:
    """A READ COMMITTED transaction. With ``pipelined``, its statements are sent together.

    You may fetch results inside the block. If the block ends without an exception, it commits.

    :param indexed: False for statements that may read most of a table.
    :raises psycopg.errors.LockNotAvailable: another transaction held a lock for too long.
    :raises Unavailable: the database did not answer, or no connection became free, in time.
    """
    with translated_faults(passing=(LockNotAvailable,)):
        async with pool.connection() as connection:
            if pipelined:
                async with connection.pipeline(), connection.transaction():
                    await _open(connection, lock_timeout_seconds, indexed=indexed)
                    yield connection
            else:
                async with connection.transaction():
                    await _open(connection, lock_timeout_seconds, indexed=indexed)
                    yield connection


async def _open(connection: Connection, lock_timeout_seconds: float, *, indexed: bool) -> None:
    # A stricter isolation level would use a snapshot from before the lock.
    await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    await connection.execute(
        _LOCKING if indexed else _LOCKING_ONLY, (_milliseconds(lock_timeout_seconds),)
    )


@asynccontextmanager
async def bounded_transaction(
    connection: Connection, *, statement_seconds: float, lock_seconds: float
) -> AsyncIterator[None]:
    """A transaction in which Postgres bounds each statement, and each wait for a lock.

    :raises psycopg.errors.QueryCanceled: a statement took too long.
    :raises psycopg.errors.LockNotAvailable: another transaction held a lock for too long.
    """
    limits = _milliseconds(statement_seconds), _milliseconds(lock_seconds)
    async with connection.transaction():
        await connection.execute(_LIMITS, limits, prepare=False)
        yield


def _milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"
