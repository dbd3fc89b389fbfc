"""Transactions that say whether they are committed, though the connection broke at the COMMIT."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from psycopg.errors import UniqueViolation
from sqlalchemy import text

from headrace.db.engine import Sessions, build_engine
from headrace.db.receipts import Receipts
from headrace.db.transactions import locking_transaction
from headrace.unavailable_errors import DatabaseUnavailable, OutcomeUnknown
from tests.support.database import open_pool
from tests.support.proxy import proxied

RECEIPTS = "SELECT count(*) FROM idempotency_keys WHERE route = 'receipt'"


@asynccontextmanager
async def cut_pool(database_url, *, away_seconds=5.0):
    """A pool behind a proxy; and one with a direct way, to look at what is stored."""
    async with (
        proxied(database_url) as proxy,
        open_pool(proxy.url, away_timeout_seconds=away_seconds) as pool,
        open_pool(database_url) as direct,
    ):
        yield proxy, pool, direct


async def count(pool, statement):
    async with pool.connection() as connection:
        row = await (await connection.execute(statement)).fetchone()
    return row[0]


def transaction(pool):
    return locking_transaction(pool, lock_timeout_seconds=5)


async def make_table(direct):
    async with direct.connection() as connection:
        await connection.execute("CREATE TABLE told (value int PRIMARY KEY)")


async def insert(receipts, pool, value):
    async with receipts.kept(transaction(pool)) as connection:
        await connection.execute("INSERT INTO told VALUES (%s)", (value,))


@pytest.mark.parametrize(("fault", "committed"), [("drop", 0), ("drop_answer", 1)])
async def test_a_lost_answer_is_looked_up(database_url, fault, committed):
    async with cut_pool(database_url) as (proxy, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        proxy.next_commit(fault, locked=True)
        if committed:
            await insert(receipts, pool, 1)
        else:
            with pytest.raises(DatabaseUnavailable):
                await insert(receipts, pool, 1)
        assert await count(direct, "SELECT count(*) FROM told") == committed


async def test_a_transaction_that_is_judged_undone_can_not_commit_later(database_url):
    """The client gives up while its COMMIT is still on the way."""
    async with cut_pool(database_url) as (proxy, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        held = proxy.next_commit("hold", locked=True)
        inserting = asyncio.create_task(insert(receipts, pool, 1))
        await held.reached.wait()
        # The client's end breaks; the server has the open transaction for a while.
        proxy.cut()
        with pytest.raises(DatabaseUnavailable):
            await inserting
        held.release.set()
        assert await count(direct, "SELECT count(*) FROM told") == 0


async def test_a_look_that_is_cut_itself_is_repeated(database_url):
    async with cut_pool(database_url) as (proxy, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        proxy.next_commit("drop", locked=True)
        proxy.next_commit("drop_answer", locked=True)
        with pytest.raises(DatabaseUnavailable):
            await insert(receipts, pool, 1)
        assert await count(direct, "SELECT count(*) FROM told") == 0


async def test_nobody_knows_if_the_database_stays_away(database_url):
    async with cut_pool(database_url, away_seconds=0.2) as (proxy, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        lost = proxy.next_commit("drop_answer", locked=True)
        inserting = asyncio.create_task(insert(receipts, pool, 1))
        await lost.reached.wait()
        proxy.stall()
        with pytest.raises(OutcomeUnknown):
            await inserting
        proxy.flow()


async def test_what_fails_inside_is_rolled_back_and_not_looked_up(database_url):
    async with cut_pool(database_url) as (_, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        await insert(receipts, pool, 1)
        with pytest.raises(UniqueViolation):
            await insert(receipts, pool, 1)
        assert await count(direct, RECEIPTS) == 1


async def test_receipts_do_not_pile_up(database_url):
    async with cut_pool(database_url) as (_, pool, direct):
        await make_table(direct)
        receipts = Receipts(pool)
        for value in range(20):
            await insert(receipts, pool, value)
        assert await count(direct, RECEIPTS) == 1


async def test_a_session_has_a_receipt_too(database_url):
    async with cut_pool(database_url) as (proxy, pool, direct):
        await make_table(direct)
        engine = build_engine(pool)
        receipts, sessions = Receipts(pool), Sessions(engine, timeout_seconds=5)
        async with receipts.kept(sessions.begin()) as session:
            await session.execute(text("INSERT INTO told VALUES (1)"))
        proxy.next_commit("drop_answer", locked=True)
        async with receipts.kept(sessions.begin()) as session:
            await session.execute(text("INSERT INTO told VALUES (2)"))
        await engine.dispose()
        assert await count(direct, "SELECT count(*) FROM told") == 2
