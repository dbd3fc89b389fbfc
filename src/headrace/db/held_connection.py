"""A connection that an owner keeps between uses, such as a writer that repeats failed work.

If the server does not answer in time, the socket is shut down: nobody waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg

from headrace.db.pool import EXAMINE_SECONDS, Connection, SharedPool, check_connection, shut

T = TypeVar("T")


class HeldConnection:
    """A connection of the pool, kept from one use to the next.

    The first one is taken unchecked. After a failure, :meth:`examine` puts the connection in order,
    or gives it up: then the next one is checked.
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
        """Do ``work`` on the connection. Cut the connection if that takes too long or is cancelled.

        On a cancellation psycopg itself asks the server to cancel, and waits ten seconds more for a
        server that does not answer.

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
        if not connection.closed:
            try:
                await self.use(_put_in_order, seconds=EXAMINE_SECONDS)
            except (psycopg.Error, TimeoutError):
                connection.pgconn.finish()
            else:
                return
        await self.give_back()

    async def share(self) -> None:
        """Give the connection back if others wait for one. Call this between two uses."""
        if self._connection is not None and self._pool.figures().waiting:
            await self.give_back()

    async def discard(self) -> None:
        """Give the connection up, whatever its state."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            await self.give_back()

    async def wear_out(self) -> None:
        """Give the connection back to be replaced: it has carried a large message."""
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
        # Mark it as retrieved, or asyncio logs it.
        working.exception()
