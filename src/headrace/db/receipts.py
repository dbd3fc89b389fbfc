"""Receipts: tell whether a transaction was committed, when the answer to its COMMIT was lost.

If a connection breaks while a transaction commits, its client does not know whether the transaction
is done. A transaction here also inserts a row with a random key: its receipt. After a lost answer,
the client inserts a *void* under this key. The database lets one of the two in, so it decides:
either the transaction was committed, or it never will be. This also holds when a standby was
promoted meanwhile, and on any server that keeps a primary key.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar, cast
from uuid import uuid4

import structlog
from psycopg.errors import LockNotAvailable

from headrace.db.engine import Session
from headrace.db.pool import Connection, SharedPool
from headrace.db.repeats import repeated
from headrace.db.statements import named_statements
from headrace.db.transactions import locking_transaction
from headrace.unavailable_errors import DatabaseUnavailable, OutcomeUnknown, PoolExhausted

_log = structlog.stdlib.get_logger("headrace.db")

T = TypeVar("T", Connection, Session)

#: So many receipts of one process wait to be deleted by its next transactions; others are swept.
_MAX_TOLD = 1000

#: A transaction without an answer may still hold its row; then the void is tried again.
_LOCK_TIMEOUT_SECONDS = 1.0


class Receipts:
    """One for each repository; used on the event loop."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = named_statements("headrace.db", "receipts.sql")
        #: Keys of receipts that have told what they were for.
        self._told: list[str] = []

    @asynccontextmanager
    async def kept(self, transaction: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """``transaction``, with a receipt. It is committed on a normal exit, also where the answer
        was lost.

        :raises DatabaseUnavailable: the transaction is not committed and never will be, so it may
            be repeated.
        :raises OutcomeUnknown: the database did not say in time whether it is committed.
        :raises Exception: as ``transaction``, which then is rolled back.
        """
        key, finished, committed = str(uuid4()), False, False
        # No other transaction deletes these rows, so none waits for their locks.
        told, self._told = self._told, []
        try:
            async with transaction as inside:
                connection = await _connection_of(inside)
                values = {"key": key, "told": told}
                await connection.execute(self._sql["write_receipt"], values)
                yield inside
                # From here on it may be committed.
                finished = True
            committed = True
        except DatabaseUnavailable as fault:
            committed = finished and await self._is_committed(key, fault)
            if not committed:
                raise
        finally:
            self._told += [key] if committed else told
            del self._told[_MAX_TOLD:]

    async def _is_committed(self, key: str, fault: DatabaseUnavailable) -> bool:
        try:
            committed = await repeated(
                lambda: self._look(key), seconds=self._pool.away_timeout_seconds
            )
        except (DatabaseUnavailable, PoolExhausted):
            _log.warning("outcome_unknown", exc_info=True)
            raise OutcomeUnknown from fault
        _log.info("outcome_looked_up", committed=committed)
        return committed

    async def _look(self, key: str) -> bool:
        """Whether the receipt is there. If not, put a void in its place.

        This may be done again: an earlier look may have put the void there.
        """
        values = {"key": key}
        try:
            async with locking_transaction(
                self._pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS
            ) as connection:
                await connection.execute(self._sql["write_void"], values)
                found = await connection.execute(self._sql["read_receipt"], values)
                row = await found.fetchone()
        except LockNotAvailable as error:
            raise DatabaseUnavailable from error
        return row is not None and bool(row[0])


async def _connection_of(inside: Connection | Session) -> Connection:
    """psycopg's connection, in the transaction of a session too."""
    if isinstance(inside, Session):
        raw = await (await inside.connection()).get_raw_connection()
        return cast("Connection", raw.driver_connection)
    return inside
