"""A transaction whose process is gone without a word: Postgres ends it, and its locks are free."""

from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import text

from headrace.db import transactions
from headrace.db.engine import Sessions, build_engine
from headrace.db.planner import indexed_connection, langgraph_cursor
from headrace.db.transactions import bounded_transaction, locking_transaction
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable
from tests.support.database import open_pool
from tests.support.proxy import proxied
from tests.support.waiting import eventually

SHOWN = "SELECT current_setting('idle_in_transaction_session_timeout')"


async def _value(cursor):
    row = await cursor.fetchone()
    return next(iter(row.values())) if isinstance(row, dict) else row[0]


async def in_a_session(pool):
    sessions = Sessions(build_engine(pool), timeout_seconds=5)
    async with sessions.begin() as first:
        await first.scalar(text("SELECT 1"))
    async with sessions.begin() as session:
        return await session.scalar(text(SHOWN))


async def in_an_indexed_connection(pool):
    async with indexed_connection(pool) as connection:
        return await _value(await connection.execute(SHOWN))


async def in_a_cursor_of_langgraph(pool):
    async with pool.connection() as connection, langgraph_cursor(connection) as cursor:
        await cursor.execute(SHOWN)
        return await _value(cursor)


@asynccontextmanager
async def bounded(pool):
    async with (
        pool.connection() as connection,
        bounded_transaction(connection, statement_seconds=5, lock_seconds=5),
    ):
        yield connection


def in_a_transaction(opened):
    async def shown(pool):
        async with opened(pool) as connection:
            return await _value(await connection.execute(SHOWN))

    return shown


KINDS = {
    "session": in_a_session,
    "indexed connection": in_an_indexed_connection,
    "cursor of LangGraph": in_a_cursor_of_langgraph,
    "bounded": in_a_transaction(bounded),
    "locking": in_a_transaction(lambda pool: locking_transaction(pool, lock_timeout_seconds=5)),
    "locking, not indexed": in_a_transaction(
        lambda pool: locking_transaction(pool, lock_timeout_seconds=5, indexed=False)
    ),
    "locking, not pipelined": in_a_transaction(
        lambda pool: locking_transaction(pool, lock_timeout_seconds=5, pipelined=False)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_transaction_ends_where_it_stands_still(database_url, kind):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        assert await KINDS[kind](pool) == "10s"
        # What the user's own code does on the pool is not headrace's.
        async with pool.connection() as connection:
            assert await _value(await connection.execute(SHOWN)) == "0"


async def test_what_a_lost_process_has_locked_becomes_free(database_url):
    """The network loses what both sides send, and tells neither."""
    tasks, locked = Tasks(), []
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("INSERT INTO threads (thread_id) VALUES ('t')")
    async with proxied(database_url) as proxy, open_pool(proxy.url) as pool:

        async def change() -> None:
            async with locking_transaction(pool, lock_timeout_seconds=5) as connection:
                cursor = await connection.execute("SELECT * FROM threads FOR UPDATE")
                locked.append(await cursor.fetchone())
                proxy.half_open()
                await connection.execute("UPDATE threads SET status = 'busy'")

        tasks.start(change(), name="change")
        await eventually(lambda: locked)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SET lock_timeout = '30s'")
            cursor = await other.execute("SELECT status FROM threads FOR UPDATE")
            assert await cursor.fetchone() == ("idle",)
        await tasks.stop()


async def test_a_silent_server_is_left(database_url, monkeypatch):
    """It acknowledges what it gets, so TCP finds nothing wrong."""
    monkeypatch.setattr(transactions, "_SILENT_SECONDS", 0.5)
    async with proxied(database_url) as proxy, open_pool(proxy.url) as pool:

        async def ask() -> None:
            async with locking_transaction(pool, lock_timeout_seconds=5) as connection:
                proxy.half_open()
                await _value(await connection.execute(SHOWN))

        with pytest.raises(DatabaseUnavailable):
            await ask()
        async with pool.connection() as connection:
            assert await _value(await connection.execute("SELECT 1")) == 1
