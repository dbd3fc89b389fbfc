"""The role of servers under test: it reads and changes rows, and is not the owner of the tables."""

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from headrace.db.migrate import grant_to
from tests.support.database import database_settings

SERVER_ROLE = "headrace_server"


def let_server_in(url: str, role: str = SERVER_ROLE) -> None:
    """Create the role, and give it what `headrace db grant` gives, in this database.

    As docs/database-roles.md advises, it also sees the sessions of others, for metrics.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        if found is None:
            name = sql.Identifier(role)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            connection.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(name))
    grant_to(database_settings(url), role)


def as_server(url: str) -> str:
    """The URL for the role of servers; where that has no rights, as it is.

    Some tests make a database without it, or bring a role of their own.
    """
    own = make_conninfo(url, user=SERVER_ROLE)
    try:
        with psycopg.connect(own, connect_timeout=3) as connection:
            row = connection.execute(
                "SELECT has_table_privilege(to_regclass('runs'), 'DELETE')"
            ).fetchone()
    except psycopg.Error:
        return url
    return own if row is not None and row[0] else url
