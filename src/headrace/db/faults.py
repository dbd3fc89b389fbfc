"""Turns faults of the database into headrace's errors, so that services see no driver's errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool
import sqlalchemy.exc
import structlog

from headrace.db.tls import tls_problem
from headrace.error_text import first_line
from headrace.errors import InvalidRequest, StartupRefusal
from headrace.observability.masking import mask_text
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted, StatementTooSlow

#: Faults that may pass, but that psycopg does not count as operational: a demoted server, a
#: transaction that Postgres has ended at a time limit, a prepared statement that a pooler has lost.
_ALSO_PASSING = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.InvalidSqlStatementName,
)

#: Errors that a driver or the pool raises for faults of the database, not of the caller.
DATABASE_ERRORS: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg_pool.PoolTimeout,
    psycopg_pool.PoolClosed,
    psycopg_pool.TooManyRequests,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    TimeoutError,
    *_ALSO_PASSING,
)

#: With SQLAlchemy's wrappers, of faults and of other errors.
_MAY_BE_FAULTS: tuple[type[Exception], ...] = (*DATABASE_ERRORS, sqlalchemy.exc.DBAPIError)

_log = structlog.stdlib.get_logger("headrace.db")

#: The driver's message quotes the statement and its parameters, so only the log gets it.
_NOT_STORABLE = (
    "The database cannot store a value of this request: a text holds a character that Postgres does"
    " not accept, or a number is out of range."
)

#: What a role or a database of another owner makes Postgres refuse.
_REFUSALS = (
    psycopg.OperationalError,  # a lock or a time limit, among others
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
)

_POOL_ERRORS = (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests)

#: The beginning of a line of libpq, before the reason. There is a line for each address tried.
_ATTEMPT = re.compile(r'^.*connection to server (?:at|on socket) "[^"]*".*? failed: ')
#: How the hints begin that libpq writes after the reason.
_GUESSES = ("Is the server running", "This probably means", "before or while processing")
_QUOTED = re.compile(r'\s*"[^"]*"')


class DatabaseAway(psycopg_pool.PoolTimeout):
    """A pool has no connection because the database does not answer. The message says why."""


def driver_reason(error: BaseException) -> str:
    """The driver's reason in one line, without host, address, password and hints."""
    if isinstance(error, psycopg.Error | sqlalchemy.exc.DBAPIError) and (
        problem := tls_problem(str(error))
    ):
        return problem.what
    said = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines()]
    lines = [line for line in said if line and not line.startswith(_GUESSES)]
    return mask_text(_ATTEMPT.sub("", lines[-1])) if lines else type(error).__name__


def public_reason(reason: str) -> str:
    """A driver's reason for public answers, without names of users and databases."""
    return _QUOTED.sub("", reason)


#: SQLSTATE classes after which a retry may succeed: connection, lost prepared statement, rollback
#: (serialization, deadlock), resources, operator intervention, system.
_PASSING_CLASSES = frozenset({"08", "26", "40", "53", "57", "58"})
#: The server was demoted after the connection was made, or a transaction was idle or open for too
#: long. The rows are not the cause.
_PASSING_STATES = frozenset({"25006", "25P03", "25P04"})

_RETRY_DELAYS_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def passes(error: Exception) -> bool:
    """Whether a retry may succeed: on another connection, or a moment later."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in _PASSING_STATES or error.sqlstate[:2] in _PASSING_CLASSES
    # An error without SQLSTATE comes from the client: a connection, the pool, or a timeout.
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError)


def retry_delay_seconds(tries: int) -> float:
    """The pause before the next try.

    :param tries: how many retries there were before.
    :returns: seconds.
    """
    return _RETRY_DELAYS_SECONDS[min(tries, len(_RETRY_DELAYS_SECONDS) - 1)]


@contextmanager
def translated_faults(*, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn errors of drivers and pools into headrace's errors.

    :param passing: errors that the caller handles itself.
    :raises PoolExhausted, DatabaseUnavailable: a retry may succeed.
    :raises StatementTooSlow: Postgres ended a statement at its time limit.
    :raises InvalidRequest: the database cannot store a value.
    """
    try:
        yield
    except passing:
        raise
    except (psycopg.errors.DataError, sqlalchemy.exc.DataError) as error:
        _log.info("value_refused", exc_info=True)
        raise InvalidRequest(_NOT_STORABLE) from error
    except _MAY_BE_FAULTS as error:
        # SQLAlchemy wraps the driver's errors, and the pool's, which are OperationalErrors.
        cause = getattr(error, "orig", error)
        if not isinstance(cause, DATABASE_ERRORS):
            raise
        if isinstance(cause, _POOL_ERRORS) and not isinstance(cause, DatabaseAway):
            raise PoolExhausted from error
        if isinstance(cause, psycopg.errors.QueryCanceled):
            raise StatementTooSlow from error
        raise DatabaseUnavailable from error


@contextmanager
def refused_migrations() -> Iterator[None]:
    """Turn errors of a migration into refusals. The operator can repeat the migration afterwards.

    :raises StartupRefusal: HR315 a table was in use for too long, HR316 the role may not do it,
        HR319 Postgres refused a step for another reason.
    """
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise StartupRefusal(
                "HR315",
                where="database schema",
                what="a transaction has held a table that the migration needs for too long",
                remedy="Run the command again; if it is refused again, end that session"
                " (pg_stat_activity, state 'idle in transaction').",
            ) from error
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise StartupRefusal(
                "HR316",
                where="database schema",
                what=f"this role may not change it ({first_line(error)})",
                remedy="Set MIGRATION_DATABASE_URL to a role that owns the tables and may create"
                " more.",
            ) from error
        raise StartupRefusal(
            "HR319",
            where="database schema",
            what=f"Postgres refused a step of the migration ({first_line(error)})",
            remedy="Correct that and run `headrace db upgrade` again: it goes on where this one"
            " stopped.",
        ) from error


@contextmanager
def refused_statements() -> Iterator[None]:
    """Turn what Postgres refuses to a command into a refusal: for want of rights, tables or time.

    Other errors of the driver are defects, and keep their traceback.

    :raises StartupRefusal: HR302 with the message of Postgres.
    """
    try:
        yield
    except _REFUSALS as error:
        raise StartupRefusal(
            "HR302",
            where="database",
            what=f"Postgres refused a statement of the command ({mask_text(first_line(error))})",
            remedy="Give the role of DATABASE_URL the rights of the server's role, and look with"
            " `headrace db check` whether the schema is headrace's.",
        ) from error


def caller_message(error: BaseException) -> str | None:
    """A message for callers about a driver's error; None for any other error.

    It has Postgres's sentence, without the statement and its parameters.
    """
    original: BaseException | None = error
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        original = error.orig
    if isinstance(original, psycopg.Error):
        said = original.diag.message_primary or first_line(original)
    elif original is not error and isinstance(original, BaseException):
        said = first_line(original)
    else:
        return None
    return f"The database refused it: {said}."
