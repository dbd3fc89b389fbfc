"""The pool's figures are right in each state, also where every request times out."""

import asyncio
import gc
import random
import warnings

import pytest
from psycopg_pool import PoolTimeout

from headrace.db.engine import Sessions, build_engine
from headrace.db.held_connection import HeldConnection
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks
from headrace.observability.figures import PoolFigures
from tests.db.conditions import until_at_rest
from tests.support.database import open_pool
from tests.support.proxy import proxied
from tests.support.waiting import eventually

SIZE = 4


def pool_of(size: int, url: str, **changes: object):
    return open_pool(url, pool_min=size, pool_max=size, **changes)


def state(pool: SharedPool) -> tuple[int, int, int, int]:
    """Connections that are free, in use, being checked, leaked. Each connection is in one state."""
    figures = pool.figures()
    found = (figures.available, figures.in_use, figures.checking, figures.leaked)
    assert sum(found) == figures.size, figures
    return found


async def test_an_idle_pool_has_free_connections_alone(database_url):
    async with pool_of(SIZE, database_url) as pool:
        await until_at_rest(pool, SIZE)
        assert state(pool) == (SIZE, 0, 0, 0)


async def test_all_held_and_others_wait(database_url):
    async with pool_of(SIZE, database_url) as pool:
        held = [await pool.getconn() for _ in range(SIZE)]
        assert state(pool) == (0, SIZE, 0, 0)
        tasks = Tasks()
        for _ in range(3):
            tasks.start(pool.getconn(0.3), name="in-vain")
        await eventually(lambda: pool.figures().waiting == 3)
        assert state(pool) == (0, SIZE, 0, 0)
        await tasks.join()
        # psycopg_pool still has the three in its queue.
        assert pool.get_stats()["requests_waiting"] == 3
        assert pool.figures().waiting == 0
        assert not pool.is_wanted
        for connection in held:
            await pool.putconn(connection)
        await until_at_rest(pool, SIZE)


async def test_connections_that_hang_in_the_check_are_being_checked(database_url):
    """Nobody has one, and every request times out."""
    async with proxied(database_url) as proxy, pool_of(SIZE, proxy.url) as pool:
        proxy.stall()
        tasks = Tasks()
        asking = [tasks.start(pool.getconn(1.0), name="in-vain") for _ in range(SIZE + 2)]
        await eventually(lambda: pool.figures().waiting == 2)
        assert state(pool) == (0, 0, SIZE, 0)
        await tasks.join()
        assert all(isinstance(one.exception(), PoolTimeout) for one in asking)
        # Now they are made anew, and the server does not answer that either.
        assert state(pool) == (0, 0, SIZE, 0)
        proxy.flow()
        await until_at_rest(pool, SIZE)


async def test_a_pool_whose_server_is_away_leaks_nothing(database_url):
    async with proxied(database_url) as proxy, pool_of(SIZE, proxy.url) as pool:
        await proxy.stop()
        with pytest.raises(PoolTimeout):
            await pool.getconn(0.5)
        for _ in range(20):
            assert state(pool)[1::2] == (0, 0)
            await asyncio.sleep(0.02)


async def test_a_storm_of_cancellations_is_never_told_as_a_leak(database_url):
    chance = random.Random(17)
    seen: set[tuple[int, int, int, int]] = set()

    async def user(pool: SharedPool) -> None:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.002)")

    async def look(pool: SharedPool) -> None:
        while True:
            seen.add(state(pool))
            await asyncio.sleep(0)

    async with pool_of(SIZE, database_url) as pool:
        users, looking = Tasks(), Tasks()
        looking.start(look(pool), name="look")
        for number in range(300):
            task = users.start(user(pool), name=f"user-{number}")
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.05), task.cancel)
            await asyncio.sleep(0)
        await users.join()
        await until_at_rest(pool, SIZE)
        await looking.stop()
    assert {leaked for *_, leaked in seen} == {0}
    assert max(in_use for _, in_use, _, _ in seen) == SIZE


async def test_a_connection_for_a_request_that_was_cancelled_is_in_use_until_it_is_back(
    database_url,
):
    async with pool_of(1, database_url) as pool:
        for turns in range(30):
            taking = asyncio.ensure_future(pool.getconn())
            for _ in range(turns):
                await asyncio.sleep(0)
            accepted = taking.cancel()
            assert state(pool)[3] == 0
            await asyncio.wait({taking})
            if not accepted or not taking.cancelled():
                await pool.putconn(taking.result())
            assert state(pool)[3] == 0
            await until_at_rest(pool, 1)


async def test_writers_and_sessions_hold_theirs(database_url):
    async with pool_of(SIZE, database_url) as pool:
        held = HeldConnection(pool, timeout_seconds=1)
        await held.take()
        engine = build_engine(pool)
        async with Sessions(engine, timeout_seconds=5).begin() as session:
            await session.connection()
            assert state(pool) == (SIZE - 2, 2, 0, 0)
        await eventually(lambda: state(pool) == (SIZE - 1, 1, 0, 0))
        await held.wear_out()
        # The worn one is closed, and another is made.
        assert state(pool) == (SIZE - 1, 0, 1, 0)
        await until_at_rest(pool, SIZE)
        await engine.dispose()


async def test_a_connection_that_is_forgotten_is_leaked(database_url):
    async with pool_of(SIZE, database_url) as pool:
        await pool.getconn()
        with warnings.catch_warnings():
            # psycopg warns of it too.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
            await eventually(lambda: state(pool) == (SIZE - 1, 0, 0, 1))


async def test_a_connection_that_was_used_before_and_is_forgotten_is_leaked(database_url):
    """No worker of psycopg_pool keeps it."""
    async with pool_of(1, database_url) as pool:
        async with pool.connection():
            pass
        await pool.getconn()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
            await eventually(lambda: state(pool) == (0, 0, 0, 1))


async def test_a_thousand_requests_that_wait_are_counted(database_url):
    async with pool_of(1, database_url, pool_max_waiting=1000) as pool:
        holder = await pool.getconn()
        tasks = Tasks()
        for _ in range(1000):
            tasks.start(pool.getconn(5.0), name="waiting")
        await eventually(lambda: pool.figures().waiting == 1000)
        assert pool.figures() == PoolFigures(
            size=1, available=0, in_use=1, waiting=1000, max_size=1, leaked=0, checking=0
        )
        await tasks.stop()
        await pool.putconn(holder)
        await until_at_rest(pool, 1)
