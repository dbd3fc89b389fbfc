"""Database trouble in headrace's own words, so that no room above needs a driver's exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool
import sqlalchemy.exc

from headrace.errors import DatabaseUnavailable, InvalidRequest, PoolExhausted, StartupRefusal

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
        if isinstance(getattr(error, "orig", error), _POOL_ERRORS):
            raise PoolExhausted from error
        raise DatabaseUnavailable from error


@contextmanager
def refused_migrations() -> Iterator[None]:
    """Turn what an operator can cure into a sentence; a migration may be repeated after it.

    :raises StartupRefusal: HR315 a table was in use for too long, HR316 the role may not do it,
        HR319 whatever else Postgres refuses.
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
        raise StartupRefusal(
            "HR319",
            where="database schema",
            what=f"Postgres refused a step of the migration ({_first_line(error)})",
            remedy="Correct that and run `headrace db upgrade` again: it goes on where this one"
            " stopped.",
        ) from error


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]
