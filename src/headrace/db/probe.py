"""A single question to the server over a connection of its own: at start, and in commands."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection

from headrace.db.conninfo import describe
from headrace.db.faults import driver_reason
from headrace.db.logins import Login
from headrace.db.pool import Connection, shut
from headrace.db.tls import certificate_fault, tls_problem
from headrace.errors import StartupRefusal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts about the server, read over one connection at start."""

    version: str
    max_connections: int
    behind_pooler: bool
    in_recovery: bool
    database: str
    encrypted: bool


async def probe(login: Login, *, timeout_seconds: float = 15.0) -> ServerFacts:
    """Read facts about the server over a new connection, which is closed again.

    Behind a transaction pooler, the backend pid of the login is not the pid that a query returns.

    :raises StartupRefusal: HR301 the server cannot be reached, refuses the login, or does not
        answer in time; HR340 certificates.
    """

    async def look(connection: Connection) -> ServerFacts:
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
            encrypted=connection.pgconn.ssl_in_use,
        )

    return await ask_once(login, look, timeout_seconds=timeout_seconds)


async def ask_once(
    login: Login, ask: Callable[[Connection], Coroutine[Any, Any, T]], *, timeout_seconds: float
) -> T:
    """As :func:`asked`, for a start or a command, which end if there is no answer.

    :raises StartupRefusal: HR301 the server cannot be reached, refuses the login, or does not
        answer in time; HR340 certificates.
    """
    try:
        return await asked(login, ask, timeout_seconds=timeout_seconds)
    except TimeoutError:
        raise silent_server(login.conninfo, timeout_seconds) from None
    except psycopg.OperationalError as error:
        raise unreachable(login.conninfo, error) from None


async def asked(
    login: Login, ask: Callable[[Connection], Coroutine[Any, Any, T]], *, timeout_seconds: float
) -> T:
    """The result of ``ask`` on a new connection, which is closed again.

    PgBouncer accepts a connection even if it has no server connection. Then the first statement
    waits for minutes. So the connection is shut down after the timeout.

    :raises TimeoutError: the server did not answer in time.
    :raises psycopg.OperationalError: it cannot be reached, or refuses the login.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout_seconds
    cut = False

    def end(connection: Connection) -> None:
        nonlocal cut
        cut = True
        shut(connection)

    async with asyncio.timeout_at(ends_at):
        connection = await login.connect(
            AsyncConnection.connect, autocommit=True, prepare_threshold=None
        )
    silent = loop.call_at(ends_at, end, connection)
    try:
        return await ask(connection)
    except psycopg.OperationalError as error:
        if cut:
            raise TimeoutError(f"no answer within {timeout_seconds} s") from error
        raise
    finally:
        silent.cancel()
        connection.pgconn.finish()


def silent_server(conninfo: str, seconds: float) -> StartupRefusal:
    """HR301 for a server that does not answer, though it may have accepted the connection."""
    return StartupRefusal(
        "HR301",
        where=f"database {describe(conninfo)}",
        what=f"it did not answer within {seconds:.0f} s",
        remedy="Check whether Postgres is overloaded or stopped. If you use a pooler, check whether"
        " it has a free connection to the server.",
    )


def unreachable(conninfo: str, error: BaseException) -> StartupRefusal:
    """HR301 with the driver's reason; HR340 if certificates are the reason.

    It may block for some seconds: see :func:`certificate_fault`.
    """
    if problem := tls_problem(str(error)):
        problem = certificate_fault(conninfo, problem)
        return StartupRefusal(
            "HR340",
            where=f"database {describe(conninfo)}",
            what=problem.what,
            remedy=problem.remedy,
        )
    return StartupRefusal(
        "HR301",
        where=f"database {describe(conninfo)}",
        what=f"cannot connect ({driver_reason(error)})",
        remedy="Start Postgres or correct DATABASE_URL.",
    )
