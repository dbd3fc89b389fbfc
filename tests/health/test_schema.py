"""A release notices while it serves that the schema has moved away from it, and back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import structlog

from headrace.db.pool import SharedPool
from headrace.db.schema import SchemaState, known_revisions
from headrace.health.checks import SchemaProbe
from tests.support.database import open_pool
from tests.support.waiting import eventually

HEAD = known_revisions()[-1]

#: A migration of a later release: expand leaves us fit, contract does not.
EXPAND = "UPDATE headrace_alembic_version SET version_num = '9001'"
CONTRACT = "UPDATE schema_compat SET min_revision = '9001'"


@asynccontextmanager
async def watching(
    pool: SharedPool, *, interval_seconds: float = 0.02, acquire_timeout_seconds: float = 4.0
) -> AsyncIterator[SchemaProbe]:
    """A probe of a schema that was fit at start."""
    fit = SchemaState(current=HEAD, head=HEAD, min_revision=HEAD, known=(HEAD,))
    probe = SchemaProbe(
        pool,
        fit,
        interval_seconds=interval_seconds,
        acquire_timeout_seconds=acquire_timeout_seconds,
    )
    await probe.start()
    try:
        yield probe
    finally:
        await probe.stop()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[SharedPool]:
    async with open_pool(database_url, pool_min=1, pool_max=1) as opened:
        yield opened


def change(database_url: str, *statements: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_what_start_up_found_holds_before_the_first_reading(pool: SharedPool) -> None:
    async with watching(pool, interval_seconds=3600) as probe:
        assert probe.problem is None
        assert probe.revision == HEAD


async def test_an_expanding_migration_is_seen_and_served(
    database_url: str, pool: SharedPool
) -> None:
    async with watching(pool) as probe:
        change(database_url, EXPAND)
        await eventually(lambda: probe.revision == "9001")
        assert probe.problem is None


async def test_a_contracting_migration_ends_fitness(database_url: str, pool: SharedPool) -> None:
    async with watching(pool) as probe:
        change(database_url, EXPAND, CONTRACT)
        await eventually(lambda: probe.problem is not None)
        assert probe.problem == (
            "the schema is at 9001 and serves releases from schema 9001 on;"
            f" this release has {HEAD}"
        )


async def test_fitness_comes_back_with_the_schema(database_url: str, pool: SharedPool) -> None:
    async with watching(pool) as probe:
        change(database_url, EXPAND, CONTRACT)
        await eventually(lambda: probe.problem is not None)
        change(database_url, f"UPDATE headrace_alembic_version SET version_num = '{HEAD}'")
        await eventually(lambda: probe.problem is None)
        assert probe.revision == HEAD


async def test_a_schema_taken_back_is_behind(database_url: str, pool: SharedPool) -> None:
    async with watching(pool) as probe:
        change(database_url, "UPDATE headrace_alembic_version SET version_num = '0001'")
        await eventually(lambda: probe.problem is not None)
        assert probe.problem == f"the schema is at 0001, this release needs {HEAD}"


async def test_a_busy_pool_leaves_the_verdict_alone(database_url: str, pool: SharedPool) -> None:
    async with pool.connection():
        change(database_url, EXPAND, CONTRACT)
        async with watching(pool, acquire_timeout_seconds=0.02) as probe:
            await eventually(lambda: pool.get_stats().get("requests_errors", 0) > 1)
            assert probe.problem is None


async def test_what_cannot_be_read_leaves_the_verdict_alone(
    database_url: str, pool: SharedPool
) -> None:
    change(
        database_url,
        "ALTER TABLE schema_compat RENAME TO schema_compat_kept",
        "CREATE FUNCTION forbidden() RETURNS text LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE insufficient_privilege; END $$",
        "CREATE VIEW schema_compat AS SELECT forbidden() AS min_revision",
    )
    with structlog.testing.capture_logs() as lines:
        async with watching(pool, interval_seconds=0.001) as probe:
            await eventually(lambda: len(lines) > 2)
            assert probe.problem is None
    assert {line["event"] for line in lines} == {"schema_not_read"}
