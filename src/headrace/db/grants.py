"""The rights of the role that servers log in as: it reads and changes rows, and no tables.

The owner of the tables gives them (``headrace db grant ROLE``). Afterwards each
``headrace db upgrade`` gives the roles that have them the rights on new tables and functions too.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
import structlog
from psycopg import sql

from headrace.db.functions import function_definitions
from headrace.db.pool import Connection
from headrace.db.statements import TABLES, schema_of
from headrace.error_text import first_line
from headrace.errors import StartupRefusal

_log = structlog.stdlib.get_logger("headrace.migrate")

#: Tables that only commands of the owner change. Servers read some of them.
READ_ONLY = (
    "checkpoint_migrations",
    "headrace_alembic_version",
    "schema_compat",
    "store_index",
    "store_migrations",
    "vector_migrations",
)
#: Only a reindex uses it, as the owner.
_OWNERS = ("store_vectors_next",)

_CHANGES = ("SELECT", "INSERT", "UPDATE", "DELETE")

#: Roles other than its owner that may delete rows of a table: they are servers.
_GRANTEES = """
SELECT DISTINCT rolname FROM pg_class
CROSS JOIN aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
WHERE pg_class.oid = to_regclass(%s) AND privilege_type = 'DELETE' AND grantee <> relowner
ORDER BY rolname
"""

_TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = %(schema)s::regnamespace AND relname = ANY (%(tables)s)
  AND relkind IN ('r', 'p')
ORDER BY relname
"""

_FUNCTIONS = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = %(schema)s::regnamespace AND proname = ANY (%(functions)s)
"""

#: The tables on which this role lacks a right that a server needs.
FORBIDDEN_TABLES = """
SELECT given.name FROM unnest(%(names)s::text[], %(places)s::text[]) AS given (name, place)
JOIN pg_class ON pg_class.oid = to_regclass(given.place)
WHERE NOT has_table_privilege(pg_class.oid, 'SELECT')
  OR given.name <> ALL (%(read_only)s) AND NOT (
    has_table_privilege(pg_class.oid, 'INSERT') AND has_table_privilege(pg_class.oid, 'UPDATE')
    AND has_table_privilege(pg_class.oid, 'DELETE'))
ORDER BY given.name
"""


def forbidden_parameters(schema: str) -> dict[str, list[str]]:
    """The parameters of :data:`FORBIDDEN_TABLES`.

    :param schema: the schema of the setting; empty: the role's ``search_path`` decides.
    """
    names = [name for name in TABLES if name not in _OWNERS]
    prefix = f'"{schema}".' if schema else ""
    return {
        "names": names,
        "places": [f"{prefix}{name}" for name in names],
        "read_only": list(READ_ONLY),
    }


def forbidden_table(table: str, user: str) -> StartupRefusal:
    """HR343: a server that began without a right would fail in the middle of a request."""
    return StartupRefusal(
        "HR343",
        where=f"table {table}",
        what=f"role {user} may not read and change its rows",
        remedy=f"Have the owner of the tables run `headrace db grant {user}`.",
    )


def grant(connection: psycopg.Connection[Any], schema: str, role: str) -> int:
    """Give a role what a server needs, on the tables and functions that are there.

    :returns: the number of tables.
    :raises StartupRefusal: HR344 there is no such role, or it owns the tables; HR316 this role does
        not own them.
    :raises psycopg.errors.InsufficientPrivilege: it does not own all of them.
    """
    _refuse_unfit(connection, schema, role)
    place = {"schema": sql.Identifier(schema).as_string(connection)}
    wanted = [name for name in TABLES if name not in _OWNERS]
    tables = connection.execute(_TABLES, {**place, "tables": wanted}).fetchall()
    functions = connection.execute(
        _FUNCTIONS, {**place, "functions": list(function_definitions())}
    ).fetchall()
    to = sql.Identifier(role)
    with connection.transaction():
        connection.execute(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), to)
        )
        for (table,) in tables:
            rights = ("SELECT",) if table in READ_ONLY else _CHANGES
            connection.execute(_grant_statement(sql.Identifier(schema, table), rights, to))
        for (function,) in functions:
            # Postgres has quoted the name, and its arguments.
            connection.execute(
                sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), to)
            )
    return len(tables)


def renew_grants(connection: psycopg.Connection[Any], schema: str) -> None:
    """Give the roles of servers the rights on what a migration has made."""
    runs = sql.Identifier(schema, "runs").as_string(connection)
    for (role,) in connection.execute(_GRANTEES, (runs,)).fetchall():
        try:
            grant(connection, schema, role)
        except (psycopg.errors.InsufficientPrivilege, StartupRefusal) as error:
            # The migration is done, and another role owns some of the tables.
            _log.warning("grants_not_renewed", role=role, error=first_line(error))


async def share_rights(
    connection: Connection, table: sql.Identifier, rights: Sequence[str] = _CHANGES
) -> None:
    """Give the roles that may change items of the store ``rights`` on ``table``; else the same."""
    schema = schema_of(connection)
    cursor = await connection.execute(_GRANTEES, (f'"{schema}".store' if schema else "store",))
    for (role,) in await cursor.fetchall():
        await connection.execute(_grant_statement(table, rights, sql.Identifier(role)))


def _grant_statement(
    table: sql.Identifier, rights: Sequence[str], to: sql.Identifier
) -> sql.Composed:
    words = sql.SQL(", ").join(sql.SQL(right) for right in rights)
    return sql.SQL("GRANT {} ON {} TO {}").format(words, table, to)


def _refuse_unfit(connection: psycopg.Connection[Any], schema: str, role: str) -> None:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s),"
        " pg_get_userbyid(relowner) = %(role)s, pg_has_role(relowner, 'USAGE'), current_user"
        " FROM pg_class WHERE relname = 'runs' AND relnamespace = %(schema)s::regnamespace",
        {"role": role, "schema": sql.Identifier(schema).as_string(connection)},
    ).fetchone()
    assert row is not None
    if not row[0]:
        raise StartupRefusal(
            "HR344",
            where=f"role {role}",
            what="Postgres has no such role",
            remedy=f"Create it: CREATE ROLE \"{role}\" LOGIN PASSWORD '...'.",
        )
    if row[1]:
        raise StartupRefusal(
            "HR344",
            where=f"role {role}",
            what="it owns the tables, so it may do everything with them",
            remedy="Name another role for the servers, and keep this one for"
            " MIGRATION_DATABASE_URL.",
        )
    if not row[2]:
        # Postgres would only warn, if this role has rights of its own.
        raise StartupRefusal(
            "HR316",
            where="database schema",
            what=f"role {row[3]} does not own the tables, so it can give no rights on them",
            remedy="Set MIGRATION_DATABASE_URL to the role that owns them.",
        )
