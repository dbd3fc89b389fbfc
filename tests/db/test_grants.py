"""The role of servers: it may read and change rows, and nothing else."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.db.migrate import grant_to, prepare_index, upgrade
from headrace.db.schema import ensure_compatible
from headrace.db.statements import TABLES
from headrace.db.vector_index import VectorIndex
from headrace.errors import StartupRefusal
from tests.support.database import database_settings, open_pool
from tests.support.roles import SERVER_ROLE, as_server, let_server_in

INDEX = VectorIndex(3, "m", ("text",))


@pytest.fixture
def server_url(database_url: str) -> str:
    url = as_server(database_url)
    assert SERVER_ROLE in url
    return url


def may(url: str, statement: str) -> bool:
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
        finally:
            connection.rollback()
    return True


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE runs ADD COLUMN more text",
        "DROP TABLE run_events",
        "TRUNCATE runs",
        "CREATE INDEX ON runs (status)",
        "DROP FUNCTION headrace_start_runs_2",
        "CREATE TABLE more (id int)",
        "UPDATE headrace_alembic_version SET version_num = '0001'",
        "UPDATE schema_compat SET min_revision = '0001'",
        "DELETE FROM store_index",
        "CREATE TRIGGER t AFTER INSERT ON runs EXECUTE FUNCTION runs_tell_webhook()",
        "CREATE EXTENSION vector",
    ],
)
def test_it_may_change_no_table(server_url: str, statement: str) -> None:
    assert not may(server_url, statement)


@pytest.mark.parametrize("table", [name for name in TABLES if "vector" not in name])
def test_it_may_read_each_table(server_url: str, table: str) -> None:
    assert may(server_url, f"SELECT * FROM {table}")


async def test_a_server_starts_as_this_role(server_url: str) -> None:
    async with open_pool(server_url) as pool:
        assert (await ensure_compatible(pool)).problem is None


async def test_a_missing_right_is_told_at_start(
    server_url: str, database: psycopg.Connection[Any]
) -> None:
    database.execute(f"REVOKE UPDATE ON runs FROM {SERVER_ROLE}")
    async with open_pool(server_url) as pool:
        with pytest.raises(StartupRefusal) as refused:
            await ensure_compatible(pool)
    assert (refused.value.code, refused.value.where) == ("HR343", "table runs")
    assert f"headrace db grant {SERVER_ROLE}" in refused.value.remedy


def test_an_upgrade_gives_the_rights_on_what_is_new(empty_database_url: str) -> None:
    settings = database_settings(empty_database_url)
    upgrade(settings)
    let_server_in(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"REVOKE ALL ON crons FROM {SERVER_ROLE}")
    upgrade(settings)
    assert may(make_conninfo(empty_database_url, user=SERVER_ROLE), "DELETE FROM crons")


def test_tables_of_vectors_get_the_rights(database_url: str, server_url: str) -> None:
    prepare_index(database_settings(database_url), INDEX)
    assert may(server_url, "DELETE FROM store_vectors")


def test_a_schema_of_its_own(empty_database_url: str) -> None:
    settings = database_settings(empty_database_url, schema="agents")
    upgrade(settings)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    assert grant_to(settings, SERVER_ROLE) > 10
    url = make_conninfo(empty_database_url, user=SERVER_ROLE)
    assert may(url, "DELETE FROM agents.runs")
    assert not may(url, "SELECT * FROM mine")
    asyncio.run(starts(url))


async def starts(url: str) -> None:
    async with open_pool(url, schema="agents") as pool:
        assert (await ensure_compatible(pool)).problem is None


@pytest.mark.parametrize(
    ("role", "what"), [("nobody_here", "no such role"), ("postgres", "it owns the tables")]
)
def test_roles_that_get_nothing(database_url: str, role: str, what: str) -> None:
    with pytest.raises(StartupRefusal, match="HR344") as refused:
        grant_to(database_settings(database_url), role)
    assert what in refused.value.what


def test_only_the_owner_gives(database_url: str, server_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS another")
        connection.execute("CREATE ROLE another")
    with pytest.raises(StartupRefusal, match="HR316"):
        grant_to(database_settings(server_url), "another")
