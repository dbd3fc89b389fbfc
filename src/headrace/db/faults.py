"""Database trouble in headrace's own words, so that no room above needs a driver's exceptions."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool
import sqlalchemy.exc

from headrace.errors import DatabaseUnavailable, InvalidRequest, PoolExhausted, StartupRefusal
from headrace.observability.logging import mask_text

#: What a driver or a pool raises for faults of the database, as opposed to faults of the caller.
DATABASE_ERRORS: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg_pool.PoolTimeout,
    psycopg_pool.PoolClosed,
    psycopg_pool.TooManyRequests,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    TimeoutError,
)


_POOL_ERRORS = (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests)

#: What libpq puts before its reason, on a line for each address that it tried.
_ATTEMPT = re.compile(r'^.*connection to server (?:at|on socket) "[^"]*".*? failed: ')
#: Its guesses, below the reason.
_GUESSES = ("Is the server running", "This probably means", "before or while processing")
_QUOTED = re.compile(r'\s*"[^"]*"')


class DatabaseAway(psycopg_pool.PoolTimeout):
    """A pool had no connection to give because the database does not answer; says why."""


def driver_word(error: BaseException) -> str:
    """The driver's own reason in one line, without host and address; never a password.

    Its hint ("Is the server running ...") asks what the reader asks already.
    """
    said = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines()]
    lines = [line for line in said if line and not line.startswith(_GUESSES)]
    return mask_text(_ATTEMPT.sub("", lines[-1])) if lines else type(error).__name__


def public_word(word: str) -> str:
    """The same for those who may be strangers: without the names of users and databases."""
    return _QUOTED.sub("", word)


@contextmanager
def translated_faults(*, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise :class:`PoolExhausted` or :class:`DatabaseUnavailable` for what a retry may cure.

    :param passing: errors that the caller looks at itself.
    """
    try:
        yield
    except passing:
        raise
    except (psycopg.errors.DataError, sqlalchemy.exc.DataError) as error:
        raise InvalidRequest(
            f"The database cannot store this value: {_first_line(error)}"
        ) from error
    except DATABASE_ERRORS as error:
        # Those of the pool are OperationalErrors too, which SQLAlchemy wraps.
        cause = getattr(error, "orig", error)
        if isinstance(cause, _POOL_ERRORS) and not isinstance(cause, DatabaseAway):
            raise PoolExhausted from error
        raise DatabaseUnavailable from error


@contextmanager
def refused_migrations() -> Iterator[None]:
    """Turn what an operator can cure into a sentence; a migration may be repeated after it.

    :raises StartupRefusal: HR315 a table was in use for too long, HR316 the role may not do it.
    """
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise StartupRefusal(
                "HR315",
                where="database schema",
                what="a transaction has held a table that the migration needs for too long",
                remedy="Run the command again; if it goes on, end that session"
                " (pg_stat_activity, state 'idle in transaction').",
            ) from error
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise StartupRefusal(
                "HR316",
                where="database schema",
                what=f"this role may not change it ({_first_line(error)})",
                remedy="Set MIGRATION_DATABASE_URL to a role that owns the tables and may create"
                " more.",
            ) from error
        raise


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]
