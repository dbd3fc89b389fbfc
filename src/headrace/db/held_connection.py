"""A connection that its owner keeps between uses, for owners that repeat failed work.

If the server does not answer in time, the socket is shut down, so that no task waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg

from headrace.db.pool import EXAMINE_SECONDS, Connection, SharedPool, check_connection, shut
from headrace.db.traffic import has_lost_statement

T = TypeVar("T")


class HeldConnection:
    """A connection of the pool, kept from one use to the next.

    The first connection is taken without a check. After a failure, call :meth:`examine`: it repairs
    the connection or gives it up. From then on, new connections are checked.
    """

    def __init__(self, pool: SharedPool, *, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._checked = False

    async def take(self) -> Connection:
        """The connection, idle and in autocommit.

        :raises psycopg_pool.PoolTimeout: no connection became free in time.
        """
        if self._connection is None:
            self._connection = await self._pool.getconn(
                self._timeout_seconds, checked=self._checked
            )
        return self._connection

    async def use(
        self, work: Callable[[Connection], Coroutine[Any, Any, T]], *, seconds: float
    ) -> T:
        """Do ``work`` on the connection. Cut the connection if the work takes too long, or if this
        call is cancelled.

        psycopg itself would first send a cancel request, and wait up to ten seconds for a server
        that does not answer.

        :raises TimeoutError: the server did not answer in time.
        """
        connection = await self.take()
        working = self._pool.transfer(work(connection), name="pool-loan")
        try:
            await asyncio.wait({working}, timeout=seconds)
        except asyncio.CancelledError:
            await _cut(connection, working)
            raise
        if working.done():
            return working.result()
        await _cut(connection, working)
        if working.exception() is None:
            return working.result()
        raise TimeoutError(f"no answer within {seconds} s") from working.exception()

    async def examine(self) -> None:
        """Roll back an open transaction. Give the connection up if it does not work."""
        self._checked = True
        connection = self._connection
        if connection is None:
            return
        if not connection.closed and not has_lost_statement(connection):
            try:
                await self.use(_put_in_order, seconds=EXAMINE_SECONDS)
            except (psycopg.Error, TimeoutError):
                connection.pgconn.finish()
            else:
                return
        await self.give_back()

    async def share(self) -> None:
        """Give the connection back if others wait for one. Call this between two uses."""
        if self._connection is not None and self._pool.is_wanted:
            await self.give_back()

    async def discard(self) -> None:
        """Give the connection up, whatever its state."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            await self.give_back()

    async def wear_out(self) -> None:
        """Give the connection back, and let the pool replace it: it has carried a large message."""
        if self._connection is not None:
            self._pool.wear_out(self._connection)
            await self.give_back()

    async def give_back(self) -> None:
        """Return the connection to the pool, which replaces a dead one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool.putconn(connection)


async def _put_in_order(connection: Connection) -> None:
    await connection.rollback()
    await check_connection(connection)


async def _cut(connection: Connection, working: asyncio.Task[Any]) -> None:
    """Shut the connection down, so that ``working`` fails at once."""
    shut(connection)
    await asyncio.wait({working})
    connection.pgconn.finish()
    if not working.cancelled():
        # Retrieve the exception, or asyncio logs it.
        working.exception()
