"""``headrace db upgrade``: from many places at once, beside the user's own tables, by any role that
may."""

import asyncio
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.db.migrate import drift, upgrade
from headrace.db.schema import ensure_compatible, known_revisions, state
from headrace.errors import StartupRefusal
from tests.migrations.catalog import invalid_indexes, snapshot
from tests.migrations.commands import run_headrace, start_headrace
from tests.support.database import database_settings, open_pool
from tests.support.engine import open_saver

HEAD = known_revisions()[-1]
AT_ONCE = 8


def test_eight_upgrades_at_once_all_succeed(database_url, empty_database_url):
    started = time.monotonic()
    upgrades = [
        start_headrace("db", "upgrade", database_url=empty_database_url) for _ in range(AT_ONCE)
    ]
    answers = [process.communicate(timeout=100) for process in upgrades]
    print(f"{AT_ONCE} upgrades at once took {time.monotonic() - started:.1f} s")
    assert [process.returncode for process in upgrades] == [0] * AT_ONCE, answers
    assert all(f"schema {HEAD}" in out for out, _ in answers)
    assert state(database_settings(empty_database_url)).current == HEAD
    assert invalid_indexes(empty_database_url) == []
    assert snapshot(empty_database_url) == snapshot(database_url)


def test_a_users_own_alembic_is_left_alone(empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('ae1027a6acf'), ('1975ea83b712')")
        connection.execute("CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE)")
        theirs = snapshot(empty_database_url)
        upgrade(database_settings(empty_database_url))
        versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert versions == [("ae1027a6acf",), ("1975ea83b712",)]
    assert snapshot(empty_database_url, ["alembic_version", "users"]).items() >= theirs.items()
    assert drift(database_settings(empty_database_url)) is None


def as_role(url: str, role: str) -> str:
    return make_conninfo("", **{**conninfo_to_dict(url), "user": role})


@pytest.fixture
def roles(postgres, empty_database_url) -> Iterator[tuple[str, str]]:
    """A role that may create tables in the empty database, and one that may do nothing yet."""
    laying, serving = f"laying_{uuid4().hex[:8]}", f"serving_{uuid4().hex[:8]}"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for role in (laying, serving):
            connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {laying}")
        yield laying, serving
        for role in (laying, serving):
            connection.execute(f"DROP OWNED BY {role} CASCADE")
            connection.execute(f"DROP ROLE {role}")


async def serve_a_little(url: str) -> None:
    async with open_pool(url) as pool, open_saver(pool) as saver:
        assert (await ensure_compatible(pool)).current == HEAD
        config: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        checkpoint = empty_checkpoint()
        stored = await saver.aput(config, checkpoint, {"step": 1}, {})
        await saver.aput_writes(stored, [("channel", "value")], "task")
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["id"] == checkpoint["id"]
        await saver.adelete_thread("t")
        async with pool.connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("CREATE TABLE forbidden (v int)")


async def test_one_role_lays_the_schema_and_a_lesser_one_serves(roles, empty_database_url):
    laying, serving = roles
    settings = database_settings(as_role(empty_database_url, laying))
    assert await asyncio.to_thread(upgrade, settings) == HEAD
    with psycopg.connect(as_role(empty_database_url, laying), autocommit=True) as connection:
        connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {serving}"
        )
    await serve_a_little(as_role(empty_database_url, serving))


def test_a_role_that_may_not_change_the_schema_is_told_so(roles, empty_database_url):
    _, serving = roles
    with pytest.raises(StartupRefusal, match=r"HR316 .*MIGRATION_DATABASE_URL"):
        upgrade(database_settings(as_role(empty_database_url, serving)))
    answer = run_headrace("db", "upgrade", database_url=as_role(empty_database_url, serving))
    assert answer.returncode == 1
    assert answer.stderr.startswith("HR316 ")
    assert "Traceback" not in answer.stderr
