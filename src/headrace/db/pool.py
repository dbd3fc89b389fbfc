"""The one connection pool of a process, shared by saver, store and SQLAlchemy.

It differs from psycopg_pool's own in six ways:

- Taking a connection is shielded from cancellation. On Python 3.11, psycopg_pool swallows a
  cancellation that arrives together with a connection. A cancelled check waits seconds for a server
  that does not answer. See tests/db/test_pool.py.
- The check also discards a connection to a server in recovery. psycopg_pool accepts it.
- Dead connections are passed over at once. psycopg_pool waits 1, 2, 4 s between them. After a
  restart of the server, a request could use its whole timeout for a pool of dead connections.
- A connection whose prepared statements are lost is replaced. psycopg would use them again.
- A connection that is given back in pipeline mode is replaced. psycopg leaves it in that mode if
  its user was cancelled as an inner pipeline began: a transaction in a pipeline has one.
- Its figures tell connections that are checked, made or put in order from those that are leaked.
  psycopg_pool knows only how many it has, and how many are free.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from time import monotonic, perf_counter
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests
from psycopg_pool.pool_async import AddConnection, MaintenanceTask, ReturnConnection

from headrace.db.faults import DatabaseAway, driver_reason
from headrace.db.logins import Login, logged_in
from headrace.db.traffic import Traffic, counted, has_lost_statement
from headrace.lifecycle import Tasks
from headrace.observability.figures import PoolFigures

Connection = AsyncConnection[Any]

T = TypeVar("T")


#: While no new connection can be made, a connection that should be replaced serves so much longer.
_REPRIEVE_SECONDS = 15.0

#: The pause between attempts when new connections fail the check too.
_UNFIT_SERVER_SECONDS = 0.25

#: A connection that takes longer for a rollback, or for the check, is given up.
EXAMINE_SECONDS = 2.0

#: A connection is replaced after a larger message: libpq's buffers grow to the size of the largest
#: message, and never shrink again.
WORN_BYTES = 8 * 1024 * 1024

#: How many connections a process has besides its pool: one for the heartbeat, one for LISTEN.
CONNECTIONS_BESIDE_POOL = 2


class RecoveryError(psycopg.OperationalError):
    """The server is in recovery: a standby, or a primary that was demoted."""


async def check_connection(connection: Connection) -> None:
    """Check that the server behind ``connection`` answers and accepts writes.

    :raises RecoveryError: the server is in recovery.
    :raises psycopg.OperationalError: the connection is dead.
    """
    cursor = await connection.execute("SELECT pg_is_in_recovery()", prepare=False)
    row = await cursor.fetchone()
    if row is not None and row[0]:
        raise RecoveryError("the server is in recovery and takes no writes")


class _Forgotten(MaintenanceTask):
    """Does a task and forgets it: a worker of psycopg_pool keeps its last task, with a connection.
    Nobody could tell then that the connection is leaked.
    """

    def __init__(self, pool: "SharedPool", task: MaintenanceTask) -> None:
        super().__init__(pool)
        self._task: MaintenanceTask | None = task

    async def _run(self, pool: AsyncConnectionPool[Any]) -> None:
        task, self._task = self._task, None
        if task is not None:
            await task._run(pool)


class SharedPool(AsyncConnectionPool[Connection]):
    """An ``AsyncConnectionPool`` whose requests for a connection can be cancelled at once.

    :param login: opens the connections.
    :param on_checkout: called for each request with the seconds it has waited, and whether it
        failed.
    """

    def __init__(
        self,
        login: Login,
        *args: Any,
        on_checkout: Callable[[float, bool], None] | None = None,
        behind_pooler: bool = False,
        schema: str = "",
        away_timeout_seconds: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(login.conninfo, *args, **kwargs)
        #: How this process logs in; lease and listener use it too.
        self.login = login
        self.traffic = Traffic()
        self.connection_class = logged_in(counted(self.connection_class, self.traffic), login)
        #: Whether a transaction pooler such as PgBouncer is in between: each transaction may get
        #: another session.
        self.behind_pooler = behind_pooler
        #: The schema of headrace's tables; empty: the role's search_path decides.
        self.schema = schema
        #: How long callers without a timeout of their own wait while the database is away.
        self.away_timeout_seconds = away_timeout_seconds
        self._transfers = Tasks()
        self._on_checkout = on_checkout
        #: Connections in use. The set is weak: a connection that nobody refers to any more, and
        #: that was not given back, is missing here and so counts as leaked.
        self._held: WeakSet[Connection] = WeakSet()
        #: Requests that psycopg_pool is answering, and connections whose server is being asked.
        self._asking = self._checks = 0
        #: Connections that psycopg_pool itself works on: they are made, or put in order for others.
        self._in_work = 0
        #: Connections that it makes later, because the last attempt has failed.
        self._made_later: set[Any] = set()
        #: Why the last attempt to connect, or the last check, has failed; None after a success.
        self._connect_fault: str | None = None
        self._check_fault: str | None = None
        #: When each unfinished attempt to connect began.
        self._connecting: set[float] = set()

    @property
    def fault(self) -> str | None:
        """Why the database cannot be reached: the driver's reason. None if it can."""
        if self._connect_fault is None and self._connecting:
            silent = monotonic() - min(self._connecting)
            if silent > EXAMINE_SECONDS:
                return f"no answer to a new connection for {silent:.0f} s"
        return self._connect_fault or self._check_fault

    async def getconn(self, timeout: float | None = None, *, checked: bool = True) -> Connection:
        """Take a connection.

        :param timeout: seconds to wait; None: the pool's own timeout, or
            ``away_timeout_seconds`` while the database does not answer.
        :param checked: False saves the round trip of the check. For callers that repeat failed work
            on a checked connection.
        :raises DatabaseAway: there is no connection because the database does not answer.
        :raises psycopg_pool.PoolTimeout: no connection became free in time.
        :raises psycopg_pool.TooManyRequests: too many requests wait already.
        """
        started = perf_counter()
        own = self.timeout if timeout is None else timeout
        away = self.away_timeout_seconds if timeout is None else 0.0
        taking = self._transfers.start(
            self._take_patiently(own, max(own, away), checked=checked),
            name="pool-getconn",
            context=Context(),
        )
        try:
            connection = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back_unclaimed)
            raise
        except (PoolTimeout, TooManyRequests) as error:
            if self._on_checkout is not None:
                self._on_checkout(perf_counter() - started, True)
            if (fault := self.fault) is not None:
                raise DatabaseAway(fault) from error
            raise
        if self._on_checkout is not None:
            self._on_checkout(perf_counter() - started, False)
        return connection

    async def putconn(self, conn: Connection) -> None:
        if conn not in self._held:
            # It was given back before: psycopg below 3.3 does so when a dead connection is closed.
            return
        self._held.discard(conn)
        if not conn.closed and (conn._pipeline is not None or conn.pgconn.pipeline_status):
            # The next user would wait for no result: neither of a query nor of a commit.
            conn.pgconn.finish()
        if has_lost_statement(conn):
            conn.pgconn.finish()
        # No shield is needed: this only hands the connection to a worker of the pool.
        await super().putconn(conn)

    def wear_out(self, connection: Connection) -> None:
        """Let the pool replace ``connection`` when it is given back: its buffers are large."""
        # The pool compares this with the present time.
        connection._expire_at = 0.0

    async def close(self, timeout: float = 5.0) -> None:
        """Close all connections, also those that are being taken or given back."""
        # Close the pool first, so that requests that wait for a connection give up.
        await super().close(timeout)
        await self._transfers.join()

    def transfer(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start a task that uses a connection of the pool. :meth:`close` waits for it."""
        return self._transfers.start(work, name=name)

    @property
    def is_wanted(self) -> bool:
        """Whether a request waits for a connection."""
        return bool(self._waiting) and self._waits() > 0

    def in_use(self) -> list[Connection]:
        """The connections that were taken and not given back."""
        return list(self._held)

    def figures(self) -> PoolFigures:
        """The present figures of the pool. ``size`` is the sum of ``available``, ``in_use``,
        ``checking`` and ``leaked``.
        """
        stats, in_use, waiting = self.get_stats(), len(self._held), self._waits()
        size, available = stats["pool_size"], stats["pool_available"]
        elsewhere = max(0, size - available - in_use)
        # psycopg_pool has given a connection to some of the requests, and they go on in a moment.
        moving = self._checks + self._in_work + len(self._made_later) + self._asking - waiting
        leaked = max(0, elsewhere - moving)
        return PoolFigures(
            size=size,
            available=available,
            in_use=in_use,
            checking=elsewhere - leaked,
            waiting=waiting,
            max_size=self.max_size,
            leaked=leaked,
        )

    def _waits(self) -> int:
        # psycopg_pool leaves a request that has given up in its queue until a connection is free.
        return sum(one.conn is None and one.error is None for one in self._waiting)

    def run_task(self, task: Any) -> None:
        """psycopg_pool gives a task to its workers. Count those that make or hold a connection."""
        self._made_later.discard(task)
        if isinstance(task, AddConnection | ReturnConnection):
            self._in_work += 1
            task = _Forgotten(self, task)
        super().run_task(task)

    async def schedule_task(self, task: Any, delay: float) -> None:
        """psycopg_pool does a task later. Note the task if it will make a connection."""
        if isinstance(task, AddConnection):
            self._made_later.add(task)
        await super().schedule_task(task, delay)

    async def _add_connection(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super()._add_connection(*args, **kwargs)
        finally:
            self._in_work -= 1

    async def _return_connection(self, conn: Connection, *args: Any, **kwargs: Any) -> None:
        try:
            if self._connect_fault is not None and await self._outlives_its_time(conn):
                conn._expire_at = monotonic() + _REPRIEVE_SECONDS
            await super()._return_connection(conn, *args, **kwargs)
        finally:
            self._in_work -= 1

    async def _outlives_its_time(self, connection: Connection) -> bool:
        """Whether a connection that should be replaced must stay: no new one can be made now.

        For example, the password has changed, and this process does not have the new one yet.
        """
        if connection.closed or connection._expire_at > monotonic() or self.closed:
            return False
        try:
            probe = await self._connect()
        except (psycopg.Error, OSError):
            return True
        probe._pool = None
        await probe.close()
        return False

    async def _connect(self, timeout: float | None = None) -> Connection:
        """Remember why connecting failed: psycopg_pool only logs it."""
        began = monotonic()
        self._connecting.add(began)
        try:
            connection = await super()._connect(timeout)
        except Exception as error:
            self._connect_fault = driver_reason(error)
            raise
        finally:
            self._connecting.discard(began)
        self._connect_fault = self._check_fault = None
        return connection

    async def _take_patiently(
        self, timeout: float, away_timeout: float, *, checked: bool
    ) -> Connection:
        """A connection. If none comes because the database is away, wait for it longer."""
        deadline = monotonic() + away_timeout
        while True:
            try:
                return await self._take(timeout, checked=checked)
            except PoolTimeout:
                left = deadline - monotonic()
                if self.fault is None or left <= 0 or self.closed:
                    raise
                timeout = min(timeout, left)

    async def _take(self, timeout: float, *, checked: bool) -> Connection:
        """A connection. With ``checked``, its server answers and accepts writes."""
        deadline = monotonic() + timeout
        failures = 0
        while True:
            self._asking += 1
            try:
                connection = await super().getconn(deadline - monotonic())
            finally:
                self._asking -= 1
            if not checked or await self._is_fit(connection, deadline):
                self._held.add(connection)
                return connection
            failures += 1
            if failures > self.max_size:
                # These are new connections: the server itself is the problem.
                await asyncio.sleep(_UNFIT_SERVER_SECONDS)

    async def _is_fit(self, connection: Connection, deadline: float) -> bool:
        """Whether the server answers and accepts writes. If not, the pool has the connection back.

        The check ends with the deadline at the latest.
        """
        # A connection that never answers must not use up the time for the others.
        patience = min(EXAMINE_SECONDS, max(0.0, deadline - monotonic()))
        silent_at = monotonic() + patience
        silent = asyncio.get_running_loop().call_later(patience, shut, connection)
        self._checks += 1
        try:
            await check_connection(connection)
        except psycopg.Error as error:
            cut = monotonic() >= silent_at
            self._check_fault = "it does not answer" if cut else driver_reason(error)
            # The pool replaces a closed connection. Do not call close(): it would also give the
            # connection back.
            connection.pgconn.finish()
            await super().putconn(connection)
            return False
        except BaseException:
            await super().putconn(connection)
            raise
        else:
            self._check_fault = None
            return True
        finally:
            self._checks -= 1
            silent.cancel()

    def _give_back_unclaimed(self, taking: asyncio.Task[Connection]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._transfers.start(self.putconn(taking.result()), name="pool-putconn-unclaimed")


def shut(connection: Connection) -> None:
    """Shut the socket down, so that a task that waits for an answer fails at once."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as link, suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
