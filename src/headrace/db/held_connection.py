"""A pool's connection in the hands of somebody who repeats what fails: kept, examined, cut.

What does not answer is not waited for: the socket is shut down under it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psycopg

from headrace.db.pool import EXAMINE_SECONDS, Connection, SharedPool, check_connection, shut

T = TypeVar("T")


class HeldConnection:
    """A connection kept from one use to the next, for whoever repeats what fails.

    The first is taken unchecked. After a failure :meth:`examine` puts the connection back in order,
    or exchanges it for one that was checked.
    """

    def __init__(self, pool: SharedPool, *, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._checked = False

    async def take(self) -> Connection:
        """The connection, idle and in autocommit.

        :raises psycopg_pool.PoolTimeout: none became free in time.
        """
        if self._connection is None:
            self._connection = await self._pool.getconn(
                self._timeout_seconds, checked=self._checked
            )
        return self._connection

    async def use(
        self, work: Callable[[Connection], Coroutine[Any, Any, T]], *, seconds: float
    ) -> T:
        """Do ``work`` on the connection, which is cut when that takes too long or is cancelled.

        Left to itself, psycopg answers a cancellation by asking the server to cancel too, and waits
        ten seconds more for a server that does not answer.

        :raises TimeoutError: there was no answer in time.
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
        """Roll back what a failure left open; give the connection up if it is not sound."""
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
        """Between two uses: give the connection back if others wait for one."""
        if self._connection is not None and self._pool.figures().waiting:
            await self.give_back()

    async def discard(self) -> None:
        """Give the connection up, whatever its state."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            await self.give_back()

    async def wear_out(self) -> None:
        """Give the connection back to be replaced, after it has carried a lot at once."""
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
    """End the connection under ``working``, which fails with it, at once."""
    shut(connection)
    await asyncio.wait({working})
    connection.pgconn.finish()
    if not working.cancelled():
        # Seen, also where nobody asks for it.
        working.exception()
