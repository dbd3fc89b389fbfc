"""The schema version of the database, compared with the version that this release needs.

This module only reads, and does not import Alembic. The names of the revision files contain the
numbers of the revisions, so a server need not load the files.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege

from headrace.database_settings import DatabaseSettings
from headrace.db.functions import (
    INSTALLED,
    forbidden_functions,
    installed_parameters,
    unfit_functions,
)
from headrace.db.grants import FORBIDDEN_TABLES, forbidden_parameters, forbidden_table
from headrace.db.logins import login_of
from headrace.db.pool import Connection, SharedPool
from headrace.db.probe import ask_once
from headrace.db.statements import schema_of, statement, use_schema
from headrace.db.table_schema import no_access
from headrace.db.triggers import (
    INSTALLED_TRIGGERS,
    installed_triggers_parameters,
    unfit_triggers,
)
from headrace.errors import StartupRefusal

T = TypeVar("T")

#: Whether the two tables exist and are ours: another application may use their names.
_THERE = """
SELECT
  EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = to_regclass(%(version)s) AND attname = 'version_num' AND NOT attisdropped),
  EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = to_regclass(%(compat)s) AND attname = 'min_revision' AND NOT attisdropped)
"""
_VERSION = statement("SELECT version_num FROM headrace_alembic_version")
_MIN_REVISION = statement("SELECT min_revision FROM schema_compat")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision of the database, and the revisions that this release knows."""

    current: str | None
    head: str
    min_revision: str | None
    known: tuple[str, ...]

    @property
    def behind(self) -> bool:
        return self.current is None or (self.current in self.known and self.current != self.head)

    @property
    def newer(self) -> bool:
        """Whether a later release has migrated the schema."""
        return self.current is not None and self.current not in self.known

    @property
    def refused(self) -> bool:
        """Whether the schema is newer, and this release is too old to use it."""
        return self.newer and self.min_revision not in self.known

    @property
    def problem(self) -> str | None:
        """Why this release cannot serve on the schema, or None."""
        if self.behind:
            present = f"at {self.current}" if self.current else "empty"
            return f"the schema is {present}, this release needs {self.head}"
        if self.refused:
            return (
                f"the schema is at {self.current} and serves releases from schema"
                f" {self.min_revision} on; this release has {self.head}"
            )
        return None


def state(settings: DatabaseSettings, *, migrations: bool = False) -> SchemaState:
    """The schema's state, read over a new connection. For commands: it starts an event loop.

    :raises StartupRefusal: HR301 the database cannot be reached, or does not answer in time; HR318
        the role may not use the schema.
    """
    login = login_of(settings, migrations=migrations)

    async def read(connection: Connection) -> SchemaState:
        use_schema(connection, settings.schema_name)
        return await _read_state(connection)

    return asyncio.run(ask_once(login, read, timeout_seconds=settings.open_timeout_seconds))


def ask(
    settings: DatabaseSettings,
    question: Callable[[Connection], Coroutine[Any, Any, T]],
    *,
    timeout_seconds: float,
) -> T:
    """The result of ``question`` on a new connection, if this release can use the schema.

    For commands: it starts an event loop.

    :raises StartupRefusal: HR301 the database cannot be reached, or does not answer in time; HR311
        the schema is behind, HR312 it is too new, HR318 the role may not use it.
    """

    async def read(connection: Connection) -> T:
        use_schema(connection, settings.schema_name)
        refuse_unfit(await _read_state(connection))
        return await question(connection)

    login = login_of(settings)
    return asyncio.run(ask_once(login, read, timeout_seconds=timeout_seconds))


async def read_state(pool: SharedPool, *, timeout_seconds: float | None = None) -> SchemaState:
    """The schema's state, read over the pool.

    :param timeout_seconds: how long to wait for a connection; None: the pool's own timeout.
    :raises StartupRefusal: HR318 the role may not use the schema.
    """
    async with pool.connection(timeout_seconds) as connection:
        return await _read_state(connection)


async def _read_state(connection: AsyncConnection[Any]) -> SchemaState:
    current = min_revision = None
    schema = schema_of(connection)
    prefix = f'"{schema}".' if schema else ""
    names = {
        "version": f"{prefix}headrace_alembic_version",
        "compat": f"{prefix}schema_compat",
    }
    try:
        cursor = await connection.execute(_THERE, names)
    except InsufficientPrivilege:
        raise no_access(schema, connection.info.user) from None
    versioned, compat = await cursor.fetchone() or (False, False)
    if versioned:
        cursor = await connection.execute(_VERSION)
        row = await cursor.fetchone()
        current = row[0] if row else None
    if compat and current is not None:
        cursor = await connection.execute(_MIN_REVISION)
        row = await cursor.fetchone()
        min_revision = row[0] if row else None
    known = known_revisions()
    return SchemaState(current=current, head=known[-1], min_revision=min_revision, known=known)


async def ensure_compatible(pool: SharedPool) -> SchemaState:
    """The schema's state, if this release can use the schema.

    :raises StartupRefusal: HR311 the schema is behind, or functions or triggers are missing; HR312
        it is too new, HR318 the role may not use it, or not call its functions; HR343 nor change
        its rows.
    """
    async with pool.connection() as connection:
        found = await _read_state(connection)
        refuse_unfit(found)
        await _refuse_unfit_functions(connection)
        if not found.newer:
            # A later release may have other triggers.
            await _refuse_unfit_triggers(connection)
        await _refuse_forbidden_tables(connection)
    return found


async def _refuse_forbidden_tables(connection: Connection) -> None:
    """:raises StartupRefusal: HR343 the role may not read or change rows of a table."""
    parameters = forbidden_parameters(schema_of(connection))
    cursor = await connection.execute(FORBIDDEN_TABLES, parameters)
    if row := await cursor.fetchone():
        raise forbidden_table(row[0], connection.info.user)


async def _refuse_unfit_functions(connection: Connection) -> None:
    """:raises StartupRefusal: HR311 a function is missing or differs; HR318 the role may not call
    one.
    """
    schema = schema_of(connection)
    cursor = await connection.execute(INSTALLED, installed_parameters(schema))
    installed = await cursor.fetchall()
    if unfit := unfit_functions(installed):
        raise StartupRefusal(
            "HR311",
            where="database schema",
            what=functions_problem(unfit),
            remedy="Run `headrace db upgrade` on this database.",
        )
    if forbidden := forbidden_functions(installed):
        user = connection.info.user
        raise StartupRefusal(
            "HR318",
            where=f"function {forbidden[0]}",
            what=f"role {user} may not call it",
            remedy=f"Have its owner run GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA"
            f' "{installed[0][1]}" TO "{user}".',
        )


async def _refuse_unfit_triggers(connection: Connection) -> None:
    """:raises StartupRefusal: HR311 a trigger is missing, switched off, or differs."""
    parameters = installed_triggers_parameters(schema_of(connection))
    cursor = await connection.execute(INSTALLED_TRIGGERS, parameters)
    if unfit := unfit_triggers(await cursor.fetchall()):
        raise StartupRefusal(
            "HR311",
            where="database schema",
            what=triggers_problem(unfit),
            remedy="Run `headrace db upgrade` on this database.",
        )


def triggers_problem(unfit: Sequence[str]) -> str:
    """A sentence about triggers that are not those of this release."""
    return f"trigger {', '.join(unfit)}: missing, switched off, or not that of this release"


def functions_problem(unfit: Sequence[str]) -> str:
    """A sentence about functions that are not those of this release."""
    return f"{', '.join(unfit)}: missing, or not the functions of this release"


def refuse_unfit(found: SchemaState) -> None:
    """:raises StartupRefusal: HR311 the schema is behind, HR312 it is too new."""
    if found.behind:
        raise behind(found)
    if found.problem is not None:
        raise StartupRefusal(
            "HR312",
            where="database schema",
            what=found.problem,
            remedy="Deploy the newer headrace release.",
        )


def behind(found: SchemaState) -> StartupRefusal:
    """The refusal HR311."""
    return StartupRefusal(
        "HR311",
        where="database schema",
        what=found.problem or "it is behind",
        remedy="Run `headrace db upgrade` on this database.",
    )


@cache
def known_revisions() -> tuple[str, ...]:
    """All revisions of this release, oldest first."""
    files = (scripts_folder() / "versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


@cache
def scripts_folder() -> Path:
    """The folder of the migrations: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "_migrations"
    return packaged if packaged.is_dir() else package.parents[1] / "migrations"
