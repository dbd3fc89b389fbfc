"""The pool keeps its connections whatever happens to those who take them."""

import asyncio
import random
import sys
from contextlib import asynccontextmanager
from time import monotonic, perf_counter

import psycopg
import pytest
import uvloop
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed
from sqlalchemy import text

from headrace.db.engine import Sessions, build_engine
from headrace.db.faults import translated_faults
from headrace.db.pool_builder import build_pool
from headrace.db.transactions import locking_transaction
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted
from tests.db.conditions import at_rest, kill_backends, until_at_rest
from tests.support.database import database_settings, open_pool
from tests.support.pace import within
from tests.support.proxy import proxied
from tests.support.waiting import eventually

SIZE = 4


def pool_of(size: int, url: str, **changes: object):
    return open_pool(url, pool_min=size, pool_max=size, **changes)


async def steps(count: int) -> None:
    """Let the event loop go round ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def all_can_be_had(pool, size: int) -> None:
    """Take all connections at once and use each."""
    connections = [await pool.getconn() for _ in range(size)]
    for connection in connections:
        await connection.execute("SELECT 1")
        await pool.putconn(connection)
    await until_at_rest(pool, size)


@asynccontextmanager
async def stock_pool_of(size: int, url: str):
    """psycopg_pool's own, with the check that comes with it."""
    async with AsyncConnectionPool(
        url,
        min_size=size,
        max_size=size,
        timeout=10,
        check=AsyncConnectionPool.check_connection,
        reset=lambda connection: connection.set_autocommit(True),
        kwargs={"autocommit": True},
    ) as pool:
        await pool.wait()
        yield pool


async def swallowed_cancellations(pool) -> int:
    """Cancel a waiting request at each step after the connection was given back.

    Returns how many of the requests accepted the cancellation, and had a connection all the same.
    """
    swallowed = 0
    for count in range(40):
        holder = await pool.getconn()
        taking = asyncio.ensure_future(pool.getconn())
        await eventually(lambda: pool.get_stats()["requests_waiting"] == 1)
        await pool.putconn(holder)
        await steps(count)
        accepted = taking.cancel()
        await asyncio.wait({taking})
        if not taking.cancelled():
            swallowed += accepted
            await pool.putconn(taking.result())
        await eventually(lambda: pool.get_stats()["pool_available"] == 1)
    return swallowed


async def test_a_cancelled_request_is_cancelled_though_a_connection_comes(database_url):
    async with pool_of(1, database_url) as pool:
        assert await swallowed_cancellations(pool) == 0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio.wait_for keeps cancellations")
async def test_the_stock_pool_swallows_cancellations(database_url):
    """The day this fails, ``getconn`` needs its shield for silent servers alone."""
    async with stock_pool_of(1, database_url) as pool:
        assert await swallowed_cancellations(pool) > 0


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize(("pool_with", "at_once"), [(pool_of, True), (stock_pool_of, False)])
async def test_a_request_to_a_silent_server_is_cancelled_at_once(database_url, pool_with, at_once):
    """The stock pool waits for the server. The day it does not, the shield can go."""
    async with proxied(database_url) as proxy, pool_with(1, proxy.url) as pool:
        proxy.stall()
        taking = asyncio.ensure_future(pool.getconn())
        await eventually(lambda: pool.get_stats()["pool_available"] == 0)
        await asyncio.sleep(0.05)
        taking.cancel()
        await asyncio.wait({taking}, timeout=1)
        assert taking.done() == at_once
        proxy.flow()
        await asyncio.wait({taking})
        if not taking.cancelled():
            # psycopg_pool 3.3.0 swallows the cancellation of a check.
            assert not at_once
            await pool.putconn(taking.result())
        await eventually(lambda: pool.get_stats()["pool_available"] == 1)


async def test_a_storm_of_cancellations_loses_no_connection(database_url):
    chance = random.Random(4711)

    async def user(pool) -> None:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.002)")

    async with pool_of(SIZE, database_url) as pool:
        tasks = Tasks()
        for number in range(300):
            task = tasks.start(user(pool), name=f"user-{number}")
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.05), task.cancel)
            await steps(chance.randrange(4))
        await tasks.join()
        await until_at_rest(pool, SIZE)
        await all_can_be_had(pool, SIZE)


@pytest.mark.parametrize("held", [0, 1])
async def test_a_request_cancelled_at_any_step_loses_no_connection(held, database_url):
    """Also while it waits for one that somebody else holds."""
    async with pool_of(1, database_url) as pool:
        tasks = Tasks()
        for count in range(40):
            holder = await pool.getconn() if held else None
            taking = tasks.start(pool.getconn(), name="taking")
            await steps(count)
            if holder is not None:
                await pool.putconn(holder)
            if not taking.cancel():
                await pool.putconn(taking.result())
            await asyncio.wait([taking])
            await until_at_rest(pool, 1)


async def test_a_return_cancelled_at_any_step_loses_no_connection(database_url):
    async with pool_of(1, database_url) as pool:
        tasks = Tasks()
        for count in range(1, 20):
            connection = await pool.getconn()
            await connection.execute("BEGIN")
            giving = tasks.start(pool.putconn(connection), name="giving")
            await steps(count)
            giving.cancel()
            await asyncio.wait([giving])
            await until_at_rest(pool, 1)


async def test_a_change_that_is_cut_at_any_step_leaves_its_connection_sound(database_url):
    async with pool_of(1, database_url) as pool:

        async def change() -> None:
            async with locking_transaction(pool, lock_timeout_seconds=1) as connection:
                for number in range(20):
                    await connection.execute("SELECT %s::int", (number,))

        for count in range(0, 120, 3):
            changing = asyncio.ensure_future(change())
            await steps(count)
            changing.cancel()
            await steps(count % 4)
            changing.cancel()
            await asyncio.wait({changing})
            async with pool.connection() as connection:
                assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
        await until_at_rest(pool, 1)


async def test_a_pool_closed_under_load_leaves_no_session_behind(database_url):
    url = f"{database_url}&application_name=closing"
    async with pool_of(SIZE, url) as pool:
        tasks = Tasks()
        for number in range(40):
            tasks.start(pool.getconn(), name=f"taking-{number}").cancel()
            await steps(number % 3)
        await tasks.join()
    with psycopg.connect(database_url, autocommit=True) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'"
        await eventually(lambda: connection.execute(count).fetchone() == (0,))


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize("size", [1, SIZE])
async def test_dead_connections_are_passed_over_at_once(size, database_url):
    async with pool_of(size, database_url) as pool:
        assert kill_backends(database_url) == size
        for _ in range(size + 1):
            started = perf_counter()
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
            seconds = perf_counter() - started
            print(f"a connection after {seconds:.3f} s")
            assert seconds < within(1)
        await until_at_rest(pool, size)
        await all_can_be_had(pool, size)


# It has a bound on time.
@pytest.mark.alone
async def test_requests_that_meet_only_dead_connections_all_succeed(database_url):
    async def user(pool) -> None:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")

    async with pool_of(SIZE, database_url) as pool:
        assert kill_backends(database_url) == SIZE
        started = perf_counter()
        await asyncio.gather(*[user(pool) for _ in range(5 * SIZE)])
        seconds = perf_counter() - started
        print(f"{5 * SIZE} requests after {seconds:.3f} s")
        assert seconds < within(1)
        await until_at_rest(pool, SIZE)


async def test_a_session_killed_in_use_is_replaced(database_url):
    async with pool_of(1, database_url) as pool:
        async with pool.connection() as connection:
            kill_backends(database_url)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 1")
        await until_at_rest(pool, 1)
        await all_can_be_had(pool, 1)


# It has a bound on time.
@pytest.mark.alone
async def test_one_request_too_many_is_refused_at_once(database_url):
    async with pool_of(1, database_url, pool_max_waiting=1) as pool:
        holder = await pool.getconn()
        tasks = Tasks()
        waiting = tasks.start(pool.getconn(), name="waiting")
        await eventually(lambda: pool.figures().waiting == 1)
        started = perf_counter()
        with pytest.raises(PoolExhausted), translated_faults():
            await pool.getconn()
        assert perf_counter() - started < within(0.5)
        await pool.putconn(holder)
        await pool.putconn(await waiting)
        await until_at_rest(pool, 1)


async def test_a_request_that_waits_too_long_is_refused_and_reported(database_url):
    settings = database_settings(database_url, pool_min=1, pool_max=1, acquire_timeout_seconds=0.2)
    seen: list[bool] = []
    pool = build_pool(
        settings,
        behind_pooler=False,
        on_checkout=lambda _, in_vain: seen.append(in_vain),
    )
    await pool.open(wait=True)
    async with pool.connection():
        with pytest.raises(PoolExhausted), translated_faults():
            await pool.getconn()
    assert seen == [False, True]
    await until_at_rest(pool, 1)
    await pool.close()


# It has a bound on time.
@pytest.mark.alone
async def test_a_server_that_falls_silent_costs_a_request_no_more_than_its_timeout(database_url):
    """Nobody says that the connection is dead; there is just no answer to the check."""
    async with proxied(database_url) as proxy, pool_of(SIZE, proxy.url) as pool:
        proxy.stall()
        started = perf_counter()
        with pytest.raises(DatabaseUnavailable), translated_faults():
            await pool.getconn(0.5)
        seconds = perf_counter() - started
        print(f"refused after {seconds:.3f} s")
        assert seconds < within(1)
        proxy.flow()
        await until_at_rest(pool, SIZE)
        await all_can_be_had(pool, SIZE)


# It has a bound on time.
@pytest.mark.alone
async def test_a_pool_whose_server_is_away_closes_without_waiting_for_those_who_wait(database_url):
    async with proxied(database_url) as proxy:
        async with pool_of(1, proxy.url, acquire_timeout_seconds=30.0) as pool:
            tasks = Tasks()
            holder = await pool.getconn()
            waiting = [tasks.start(pool.getconn(), name="waiting") for _ in range(3)]
            await eventually(lambda: pool.figures().waiting == 3)
            waiting[0].cancel()
            await proxy.stop()
            await pool.putconn(holder)
            started = perf_counter()
        assert perf_counter() - started < 7.0
        await tasks.join()
        assert [type(task.exception()) for task in waiting[1:]] == [PoolClosed] * 2


async def test_a_connection_comes_back_in_autocommit_and_without_a_transaction(database_url):
    async with pool_of(1, database_url) as pool:
        connection = await pool.getconn()
        await connection.set_autocommit(False)
        await connection.execute("CREATE TABLE half_done (v int)")
        await connection.close()
        async with pool.connection() as again:
            assert again is connection
            assert again.autocommit
            assert again.info.transaction_status == TransactionStatus.IDLE
            cursor = await again.execute("SELECT to_regclass('half_done')")
            assert await cursor.fetchone() == (None,)


@pytest.mark.parametrize(("setting", "threshold"), [("auto", 5), ("on", 5), ("off", None)])
async def test_statements_are_prepared_on_direct_connections(setting, threshold, database_url):
    async with (
        pool_of(1, database_url, prepared_statements=setting) as pool,
        pool.connection() as connection,
    ):
        assert connection.prepare_threshold == threshold


async def test_figures_tell_who_has_the_connections(database_url):
    async with pool_of(SIZE, database_url) as pool:
        assert at_rest(pool, SIZE)
        async with pool.connection(), pool.connection():
            figures = pool.figures()
            assert (figures.in_use, figures.available, figures.leaked) == (2, SIZE - 2, 0)
        await until_at_rest(pool, SIZE)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_check_that_begins_at_the_deadline_loses_no_connection(database_url, loop_factory):
    """uvloop's handle of a call without delay does not know when it is due."""

    async def ask_a_silent_server() -> None:
        async with proxied(database_url) as proxy, pool_of(1, proxy.url) as pool:
            connection = await AsyncConnectionPool.getconn(pool)
            proxy.stall()
            assert not await pool._is_fit(connection, monotonic())
            proxy.flow()
            await until_at_rest(pool, 1)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(ask_a_silent_server())


def test_a_cancelled_pipeline_poisons_no_connection(database_url):
    """A session on a connection that is still in pipeline mode gets no rows, and waits for no
    commit. A transaction is cancelled after each number of turns of the event loop.
    """

    async def main() -> None:
        async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
            sessions = Sessions(build_engine(pool), timeout_seconds=10)

            async def change() -> None:
                async with locking_transaction(pool, lock_timeout_seconds=5) as connection:
                    await connection.execute("SELECT 1")

            async def look() -> object:
                async with sessions.begin() as session:
                    return await session.scalar(text("SELECT 7"))

            assert await look() == 7
            cancelled = 0
            for turns in range(30 * 40):
                changing = asyncio.ensure_future(change())
                for _ in range(turns % 40):
                    await asyncio.sleep(0)
                changing.cancel()
                await asyncio.wait({changing})
                cancelled += changing.cancelled()
                assert await look() == 7
            assert cancelled > 100

    # As the server's; asyncio's own loop looks at sockets less often.
    uvloop.run(main())
