"""Transactions that lock rows in one statement and change them in the next, or have time limits.

Their statements use indexes, and Postgres ends those that stand still (db/planner.py).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import LockNotAvailable

from headrace.db.faults import translated_faults
from headrace.db.planner import INDEX_SETTINGS, STANDSTILL_SETTING
from headrace.db.pool import Connection, SharedPool

#: For this transaction alone: a pooler may give the next one to another session.
_LIMITS = f"""
SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),
  {STANDSTILL_SETTING}, {INDEX_SETTINGS}
"""

_LOCKING = f"SELECT set_config('lock_timeout', %s, true), {STANDSTILL_SETTING}"
#: In a pipeline Postgres does not notice that a transaction stands still. From 17 on it can bound
#: the whole transaction: for longer than any change of a thread (threads/updates.py) may take.
_BOUND = """CASE WHEN current_setting('server_version_num')::int >= 170000
  THEN set_config('transaction_timeout', '15s', true) END"""
#: This process then leaves a server that is silent. Postgres has ended the transaction before.
_SILENT_SECONDS = 20.0
#: By whether the transaction is indexed and pipelined.
_OPENINGS = {
    (False, False): _LOCKING,
    (False, True): f"{_LOCKING}, {_BOUND}",
    (True, False): f"{_LOCKING}, {INDEX_SETTINGS}",
    (True, True): f"{_LOCKING}, {INDEX_SETTINGS}, {_BOUND}",
}


@asynccontextmanager
async def locking_transaction(
    pool: SharedPool,
    *,
    lock_timeout_seconds: float,
    pipelined: bool = True,
    indexed: bool = True,
) -> AsyncIterator[Connection]:
    """A READ COMMITTED transaction. With ``pipelined``, its statements are sent together, and it
    may take 15 seconds (Postgres 17 and newer), and 20 if the server is silent.

    You may fetch results inside the block. If the block ends without an exception, it commits.

    :param indexed: False for statements that may read most of a table.
    :raises psycopg.errors.LockNotAvailable: another transaction held a lock for too long.
    :raises Unavailable: the database did not answer, or no connection became free, in time.
    """
    with translated_faults(passing=(LockNotAvailable,)):
        async with pool.connection() as connection:
            if pipelined:
                async with (
                    asyncio.timeout(_SILENT_SECONDS),
                    connection.pipeline(),
                    connection.transaction(),
                ):
                    await _open(connection, lock_timeout_seconds, _OPENINGS[indexed, True])
                    yield connection
            else:
                async with connection.transaction():
                    await _open(connection, lock_timeout_seconds, _OPENINGS[indexed, False])
                    yield connection


async def _open(connection: Connection, lock_timeout_seconds: float, settings: str) -> None:
    # A stricter isolation level would use a snapshot from before the lock.
    await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    await connection.execute(settings, (_milliseconds(lock_timeout_seconds),))


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
