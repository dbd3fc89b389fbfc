"""A database where upstream's setup() ran, at any of its versions, ends as a fresh one does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore

from headrace.db.migrate import upgrade
from headrace.errors import StartupRefusal
from tests.migrations.catalog import (
    invalid_indexes,
    lay_prefix,
    set_up_by_upstream,
    snapshot,
)
from tests.support.database import database_settings

SAVER = AsyncPostgresSaver.MIGRATIONS
STORE = AsyncPostgresStore.MIGRATIONS

#: A row for each of upstream's tables, whichever of them are there.
ROWS = {
    "checkpoints": "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
    """ VALUES ('t', 'c', '{"ts": "2026-01-02T03:04:05+00:00"}')""",
    "checkpoint_blobs": "INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)"
    r" VALUES ('t', 'messages', '1', 'msgpack', '\x01')",
    "checkpoint_writes": "INSERT INTO checkpoint_writes"
    " (thread_id, checkpoint_id, task_id, idx, channel, blob)"
    r" VALUES ('t', 'c', 'task', 0, 'messages', '\x02')",
    "store": """INSERT INTO store (prefix, key, value) VALUES ('memories.ada', 'k', '{"a": 1}')""",
}


def insert_rows(url: str) -> dict[str, list]:
    """Put a row into each table that is there; returns what the tables hold."""
    with psycopg.connect(url, autocommit=True) as connection:
        there = {row[0] for row in snapshot(url)["tables"]}
        for table in there & set(ROWS):
            connection.execute(ROWS[table].encode())
    return contents(url, there & set(ROWS))


def contents(url: str, tables) -> dict[str, list]:
    with psycopg.connect(url) as connection:
        return {
            table: [
                {key: value for key, value in row[0].items() if value not in (None, "")}
                for row in connection.execute(f"SELECT to_jsonb({table}) FROM {table}")
            ]
            for table in tables
        }


@pytest.mark.parametrize("count", range(1, len(SAVER) + 1))
def test_a_prefix_of_the_savers_migrations_is_adopted(count, database_url, empty_database_url):
    lay_prefix(empty_database_url, "checkpoint_migrations", SAVER, count)
    rows = insert_rows(empty_database_url)
    upgrade(database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)
    assert contents(empty_database_url, rows) == rows


@pytest.mark.parametrize("count", range(len(STORE) + 1))
def test_a_prefix_of_the_stores_migrations_is_adopted(count, database_url, empty_database_url):
    lay_prefix(empty_database_url, "store_migrations", STORE, count)
    rows = insert_rows(empty_database_url)
    upgrade(database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)
    assert contents(empty_database_url, rows) == rows


def test_a_database_of_old_releases_with_blobs_not_null_is_adopted(
    database_url, empty_database_url
):
    """Upstream's version 2 once said NOT NULL, which its version 4 takes back."""
    lay_prefix(empty_database_url, "checkpoint_migrations", SAVER, 4)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE checkpoint_blobs ALTER COLUMN blob SET NOT NULL")
    upgrade(database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)


async def test_a_whole_setup_with_rows_is_adopted(database_url, empty_database_url):
    await set_up_by_upstream(empty_database_url)
    rows = insert_rows(empty_database_url)
    assert len(rows) == len(ROWS)
    await asyncio.to_thread(upgrade, database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)
    assert contents(empty_database_url, rows) == rows


@contextmanager
def a_writer(url: str, table: str) -> Iterator[None]:
    """A transaction that has written to ``table`` and stays open."""
    with psycopg.connect(url) as connection:
        connection.execute(ROWS[table].encode())
        yield
        connection.commit()


def fail_concurrent_build(url: str, table: str, statement: str) -> None:
    """Start a concurrent build and let a timeout strike while it waits for a writer."""
    with a_writer(url, table), psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("table", "book", "migrations", "version", "index"),
    [
        ("checkpoints", "checkpoint_migrations", SAVER, 6, "checkpoints_thread_id_idx"),
        ("checkpoint_blobs", "checkpoint_migrations", SAVER, 7, "checkpoint_blobs_thread_id_idx"),
        ("checkpoint_writes", "checkpoint_migrations", SAVER, 8, "checkpoint_writes_thread_id_idx"),
        ("store", "store_migrations", STORE, 1, "store_prefix_idx"),
    ],
)
def test_an_index_whose_concurrent_build_failed_is_mended(
    table, book, migrations, version, index, database_url, empty_database_url
):
    lay_prefix(empty_database_url, book, migrations, version)
    fail_concurrent_build(empty_database_url, table, migrations[version])
    assert invalid_indexes(empty_database_url) == [index]
    upgrade(database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)
    assert len(contents(empty_database_url, [table])[table]) == 1


def test_an_upgrade_held_up_by_a_writer_says_so_and_the_next_one_mends_it(
    database_url, empty_database_url
):
    """Our own concurrent build gives up after its lock_timeout, and leaves an invalid index."""
    lay_prefix(empty_database_url, "checkpoint_migrations", SAVER, 4)
    with (
        a_writer(empty_database_url, "checkpoints"),
        pytest.raises(StartupRefusal, match=r"HR315 .*Run the command again"),
    ):
        upgrade(database_settings(empty_database_url))
    assert invalid_indexes(empty_database_url) == ["checkpoints_thread_id_idx"]
    upgrade(database_settings(empty_database_url))
    assert snapshot(empty_database_url) == snapshot(database_url)
