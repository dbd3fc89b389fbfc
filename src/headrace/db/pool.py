"""The one connection pool of a process, shared by saver, store and SQLAlchemy.

Three things differ from psycopg_pool's own. Taking and giving back are shielded from cancellation,
which otherwise loses the connection for good (psycopg issues 509, 1208, 1345; N2). The check also
discards a connection to a server in recovery, which the stock one accepts. And dead connections are
passed over at once: the stock loop waits 1, 2, 4 s between them, so that after a restart of the
server a request could spend its whole timeout on a pool full of dead ones.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from headrace.db.arrays import register_columns
from headrace.db.conninfo import connection_string, describe
from headrace.db.jsonb import load_jsonb
from headrace.errors import StartupRefusal
from headrace.lifecycle import Tasks
from headrace.setting_groups import DatabaseSettings

Connection = AsyncConnection[Any]

T = TypeVar("T")

#: psycopg prepares a statement after this many executions; None turns it off.
_PREPARE_THRESHOLD = 5

#: Doubling back-off between attempts to reach a lost server stops here, so that recovery is noticed
#: soon after it happens (psycopg_pool's own default is 300).
_RECONNECT_TIMEOUT_SECONDS = 8.0


#: Pause between attempts when fresh connections fail the check too.
_UNFIT_SERVER_SECONDS = 0.25

#: A connection that takes longer to roll back, or to answer the check, is given up.
EXAMINE_SECONDS = 2.0

#: A connection that has carried this much at once is replaced: libpq keeps its buffers as large as
#: the largest message was, for as long as the connection lives.
WORN_BYTES = 8 * 1024 * 1024

#: Connections a process needs besides its pool: the lease heartbeat, and the one that listens.
CONNECTIONS_BESIDE_POOL = 2


class RecoveryError(psycopg.OperationalError):
    """The server is in recovery: a standby, or a primary that was demoted."""


async def check_connection(connection: Connection) -> None:
    """Raise unless the server behind ``connection`` answers and accepts writes."""
    cursor = await connection.execute("SELECT pg_is_in_recovery()", prepare=False)
    row = await cursor.fetchone()
    if row is not None and row[0]:
        raise RecoveryError("the server is in recovery and takes no writes")


async def _configure(connection: Connection) -> None:
    register_columns(connection)
    set_json_loads(load_jsonb, connection)


async def _reset(connection: Connection) -> None:
    # SQLAlchemy switches autocommit off while it has a connection.
    await connection.set_autocommit(True)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What the pool looks like now, in connections and waiting requests."""

    size: int
    available: int
    in_use: int
    waiting: int
    max_size: int

    @property
    def leaked(self) -> int:
        """Connections that nobody holds and nobody can have; 0 when all is well."""
        return max(0, self.size - self.available - self.in_use)


class SharedPool(AsyncConnectionPool[Connection]):
    """An ``AsyncConnectionPool`` whose connections survive cancellation.

    ``on_checkout`` is called with the seconds each request waited and whether it was in vain.
    """

    def __init__(
        self,
        *args: Any,
        on_checkout: Callable[[float, bool], None] | None = None,
        behind_pooler: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        #: Another program stands between, and gives each transaction another session.
        self.behind_pooler = behind_pooler
        self._transfers = Tasks()
        self._on_checkout = on_checkout
        self._held = 0

    async def getconn(self, timeout: float | None = None, *, checked: bool = True) -> Connection:
        """Take a connection.

        :param checked: False leaves out the check, and its round trip, for whoever repeats on a
            checked one what a dead connection or a server in recovery would not take.
        """
        started = perf_counter()
        taking = self._transfers.start(
            self._take(self.timeout if timeout is None else timeout, checked=checked),
            name="pool-getconn",
        )
        try:
            connection = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back_unclaimed)
            raise
        except (PoolTimeout, TooManyRequests):
            if self._on_checkout is not None:
                self._on_checkout(perf_counter() - started, True)
            raise
        self._held += 1
        if self._on_checkout is not None:
            self._on_checkout(perf_counter() - started, False)
        return connection

    async def putconn(self, conn: Connection) -> None:
        self._held -= 1
        await asyncio.shield(self._transfers.start(super().putconn(conn), name="pool-putconn"))

    def wear_out(self, connection: Connection) -> None:
        """Let the pool replace ``connection`` when it comes back: it has carried a lot at once."""
        # What the pool itself compares with max_lifetime.
        connection._expire_at = 0.0

    async def close(self, timeout: float = 5.0) -> None:
        """Close all connections, those on their way between owner and pool included."""
        # First the pool: who still waits for a connection, of a server that is away, gives up.
        await super().close(timeout)
        await self._transfers.join()

    def transfer(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """A task on one of the connections, which :meth:`close` waits for."""
        return self._transfers.start(work, name=name)

    def figures(self) -> PoolFigures:
        stats = self.get_stats()
        return PoolFigures(
            size=stats["pool_size"],
            available=stats["pool_available"],
            in_use=self._held,
            waiting=stats["requests_waiting"],
            max_size=self.max_size,
        )

    async def _take(self, timeout: float, *, checked: bool) -> Connection:
        """A connection; when checked one that answers and accepts writes."""
        if not checked:
            return await super().getconn(timeout)
        deadline = monotonic() + timeout
        failures = 0
        while True:
            connection = await super().getconn(deadline - monotonic())
            # A connection that silently leads nowhere must not use up the patience for the others.
            silent = asyncio.get_running_loop().call_later(
                min(EXAMINE_SECONDS, max(0.0, deadline - monotonic())), shut, connection
            )
            try:
                await check_connection(connection)
            except psycopg.Error:
                # The pool replaces what comes back closed. Not close(): that gives it back itself.
                connection.pgconn.finish()
                await super().putconn(connection)
                failures += 1
                if failures > self.max_size:
                    # Not old connections any more: the server itself is unfit.
                    await asyncio.sleep(_UNFIT_SERVER_SECONDS)
            except BaseException:
                await super().putconn(connection)
                raise
            else:
                return connection
            finally:
                silent.cancel()

    def _give_back_unclaimed(self, taking: asyncio.Task[Connection]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._transfers.start(super().putconn(taking.result()), name="pool-putconn-unclaimed")


def shut(connection: Connection) -> None:
    """Whoever waits for an answer on it is told that it is closed, at once."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as link, suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one probe connection learnt about the server at start."""

    version: str
    max_connections: int
    behind_pooler: bool
    in_recovery: bool
    database: str


async def probe(conninfo: str) -> ServerFacts:
    """Connect once and look; the connection is closed again.

    A pooler betrays itself: the backend pid it announced at connect is not the one that answers.

    :raises StartupRefusal: HR301 when the server cannot be reached or refuses the login.
    """
    try:
        async with await AsyncConnection.connect(
            conninfo, autocommit=True, prepare_threshold=None
        ) as connection:
            cursor = await connection.execute(
                "SELECT pg_backend_pid(), current_setting('server_version'),"
                " current_setting('max_connections')::int, pg_is_in_recovery(), current_database()"
            )
            row = await cursor.fetchone()
            assert row is not None
            return ServerFacts(
                version=row[1],
                max_connections=row[2],
                behind_pooler=row[0] != connection.info.backend_pid,
                in_recovery=row[3],
                database=row[4],
            )
    except psycopg.OperationalError as error:
        raise unreachable(conninfo, error) from None


def unreachable(conninfo: str, error: psycopg.OperationalError) -> StartupRefusal:
    """HR301, with libpq's own last word; its hint asks what the remedy says."""
    said = [line.strip() for line in str(error).strip().splitlines()]
    reason = [line for line in said if not line.startswith("Is the server running")][-1]
    return StartupRefusal(
        "HR301",
        where=f"database {describe(conninfo)}",
        what=f"cannot connect ({reason})",
        remedy="Start Postgres or correct DATABASE_URL.",
    )


def build_pool(
    settings: DatabaseSettings,
    facts: ServerFacts,
    *,
    on_checkout: Callable[[float, bool], None] | None = None,
) -> SharedPool:
    """The pool, not yet open: nothing connects before ``open()``."""
    direct = not facts.behind_pooler
    prepared = settings.prepared_statements == "on" or (
        settings.prepared_statements == "auto" and direct
    )
    return SharedPool(
        connection_string(settings),
        min_size=settings.pool_min,
        max_size=settings.pool_max,
        max_waiting=settings.pool_max_waiting,
        timeout=settings.acquire_timeout_seconds,
        max_idle=settings.max_idle_seconds,
        max_lifetime=settings.max_lifetime_seconds,
        reconnect_timeout=_RECONNECT_TIMEOUT_SECONDS,
        configure=_configure,
        reset=_reset,
        close_returns=True,
        open=False,
        name="headrace",
        kwargs={
            "autocommit": True,
            "prepare_threshold": _PREPARE_THRESHOLD if prepared else None,
        },
        on_checkout=on_checkout,
        behind_pooler=facts.behind_pooler,
    )
