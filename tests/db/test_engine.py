"""SQLAlchemy's transactions on the shared pool: whole, bounded, and never a lost connection."""

import asyncio
import random
from contextlib import asynccontextmanager
from time import perf_counter

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from headrace.db.engine import Sessions, build_engine
from headrace.db.pool import SharedPool
from headrace.db.tables import ThreadRow
from headrace.errors import InvalidRequest
from headrace.lifecycle import Tasks
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted
from tests.db.conditions import active_queries, kill_backends, until_at_rest
from tests.support.database import open_pool
from tests.support.pace import within
from tests.support.waiting import eventually


@asynccontextmanager
async def sessions_on(url: str, *, size: int = 1, timeout_seconds: float = 10.0, **changes):
    """Sessions and the pool below them; the pool must have everything back at the end."""
    async with open_pool(url, pool_min=size, pool_max=size, **changes) as pool:
        engine = build_engine(pool)
        yield Sessions(engine, timeout_seconds=timeout_seconds), pool
        await until_at_rest(pool, size)
        await engine.dispose()


async def thread_ids(pool: SharedPool) -> list[str]:
    """What others see, over a connection that must be in autocommit."""
    async with pool.connection() as connection:
        assert connection.autocommit
        assert connection.info.transaction_status == TransactionStatus.IDLE
        cursor = await connection.execute("SELECT thread_id FROM threads ORDER BY 1")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_commit_is_seen_by_the_pool(database_url):
    async with sessions_on(database_url) as (sessions, pool):
        async with sessions.begin() as session:
            session.add(ThreadRow(thread_id="ada"))
        assert await thread_ids(pool) == ["ada"]


class Mishap(Exception):
    pass


async def mishap_after_writing(sessions: Sessions, thread_id: str) -> None:
    async with sessions.begin() as session:
        session.add(ThreadRow(thread_id=thread_id))
        await session.flush()
        assert await session.scalar(select(func.count()).select_from(ThreadRow)) == 1
        raise Mishap


async def test_a_rollback_leaves_nothing(database_url):
    async with sessions_on(database_url) as (sessions, pool):
        with pytest.raises(Mishap):
            await mishap_after_writing(sessions, "ada")
        assert await thread_ids(pool) == []


async def test_nothing_is_seen_before_the_commit(database_url):
    async with sessions_on(database_url, size=2) as (sessions, pool):
        async with sessions.begin() as session:
            session.add(ThreadRow(thread_id="ada"))
            await session.flush()
            assert await thread_ids(pool) == []
        assert await thread_ids(pool) == ["ada"]


async def test_savers_and_sessions_take_turns_on_one_connection(database_url):
    async with sessions_on(database_url) as (sessions, pool):
        for number in range(10):
            async with sessions.begin() as session:
                session.add(ThreadRow(thread_id=f"{number}"))
            assert len(await thread_ids(pool)) == number + 1


async def sleep_in_a_transaction(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        session.add(ThreadRow(thread_id="ada"))
        await session.flush()
        await session.execute(text("SELECT pg_sleep(30)"))


async def test_a_session_cancelled_in_a_statement_gives_its_connection_back(database_url):
    async with sessions_on(database_url) as (sessions, pool):
        task = Tasks().start(sleep_in_a_transaction(sessions), name="sleeper")
        await eventually(lambda: active_queries(database_url, "pg_sleep"))
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        await until_at_rest(pool, 1)
        await eventually(lambda: not active_queries(database_url, "pg_sleep"), seconds=5)
        assert await thread_ids(pool) == []


async def test_a_session_cancelled_at_any_step_gives_its_connection_back(database_url):
    async def write(sessions: Sessions, thread_id: str) -> None:
        async with sessions.begin() as session:
            session.add(ThreadRow(thread_id=thread_id))

    async with sessions_on(database_url) as (sessions, pool):
        tasks = Tasks()
        for count in range(60):
            task = tasks.start(write(sessions, f"{count}"), name="writer")
            for _ in range(count):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await until_at_rest(pool, 1)
            await thread_ids(pool)


async def test_a_storm_of_cancelled_sessions_loses_no_connection(database_url):
    chance = random.Random(4711)

    async def write(sessions: Sessions, thread_id: str) -> None:
        async with sessions.begin() as session:
            session.add(ThreadRow(thread_id=thread_id))
            await session.execute(text("SELECT pg_sleep(0.005)"))

    async with sessions_on(database_url, size=4) as (sessions, pool):
        tasks = Tasks()
        for number in range(200):
            task = tasks.start(write(sessions, f"{number}"), name=f"writer-{number}")
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.2), task.cancel)
        await tasks.join()
        await until_at_rest(pool, 4)
        for _ in range(4):
            await thread_ids(pool)


# It has a bound on time.
@pytest.mark.alone
async def test_a_transaction_that_takes_too_long_is_ended(database_url):
    async with sessions_on(database_url, timeout_seconds=0.3) as (sessions, pool):
        started = perf_counter()
        with pytest.raises(DatabaseUnavailable):
            await sleep_in_a_transaction(sessions)
        assert perf_counter() - started < within(2)
        await eventually(lambda: not active_queries(database_url, "pg_sleep"), seconds=5)
        assert await thread_ids(pool) == []


async def select_one(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("SELECT 1"))


async def test_no_bound_means_no_bound(database_url):
    async with sessions_on(database_url, timeout_seconds=0) as (sessions, _):
        await select_one(sessions)


async def test_a_pool_without_a_free_connection_is_a_fault_to_retry(database_url):
    async with sessions_on(database_url, acquire_timeout_seconds=0.2) as (sessions, pool):
        async with pool.connection():
            with pytest.raises(PoolExhausted):
                await select_one(sessions)
        await select_one(sessions)


async def test_a_session_killed_in_a_transaction_is_a_fault_to_retry(database_url):
    async def killed(sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(text("SELECT 1"))
            kill_backends(database_url)
            await session.execute(text("SELECT 1"))

    async with sessions_on(database_url) as (sessions, pool):
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await killed(sessions)
            await until_at_rest(pool, 1)
        await select_one(sessions)


async def test_dead_connections_do_not_reach_a_session(database_url):
    async with sessions_on(database_url, size=4) as (sessions, _):
        assert kill_backends(database_url) == 4
        await asyncio.gather(*[select_one(sessions) for _ in range(8)])


async def test_a_server_that_has_gone_is_a_fault_to_retry(private_postgres):
    async with open_pool(
        private_postgres.url, pool_min=1, pool_max=1, acquire_timeout_seconds=0.5
    ) as pool:
        sessions = Sessions(build_engine(pool), timeout_seconds=5)
        await select_one(sessions)
        private_postgres.stop()
        with pytest.raises((DatabaseUnavailable, PoolExhausted)):
            await select_one(sessions)
        private_postgres.start()
        async with pool.connection(timeout=20):
            pass
        await select_one(sessions)


async def add(sessions: Sessions, **values) -> None:
    async with sessions.begin() as session:
        session.add(ThreadRow(**values))


async def test_a_value_that_postgres_cannot_store_is_the_callers_fault(database_url):
    """In JSON it becomes another (docs/values.md)."""
    async with sessions_on(database_url) as (sessions, _):
        with pytest.raises(InvalidRequest, match="cannot store"):
            await add(sessions, thread_id="ada", owner="a\0b")
        await add(sessions, thread_id="ada", metadata_={"name": "a\0b"})


async def test_a_broken_constraint_is_not_a_fault_of_the_database(database_url):
    async with sessions_on(database_url) as (sessions, pool):
        await add(sessions, thread_id="ada")
        with pytest.raises(IntegrityError):
            await add(sessions, thread_id="ada")
        with pytest.raises(IntegrityError) as refused:
            await add(sessions, thread_id="x" * 256)
        assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)
        assert await thread_ids(pool) == ["ada"]


async def test_only_transactions_of_headrace_tell_the_planner_to_use_indexes(database_url):
    async with open_pool(database_url) as pool:
        told = []
        for indexed in (True, False):
            engine = build_engine(pool, indexed=indexed)
            # SQLAlchemy rolls back what it asks on its first connection.
            async with engine.connect():
                pass
            async with engine.begin() as connection:
                told.append(await connection.scalar(text("SHOW enable_seqscan")))
            await engine.dispose()
        async with pool.connection() as connection:
            row = await (await connection.execute("SHOW enable_seqscan")).fetchone()
    assert (told, row) == (["off", "on"], ("on",))


async def test_a_connection_keeps_nothing_of_its_sessions(database_url):
    """For SQLAlchemy each session is a new connection, which gets a handler of notices."""
    async with sessions_on(database_url) as (sessions, pool):
        for _ in range(3):
            async with sessions.begin() as session:
                await session.execute(text("SELECT 1"))
        async with pool.connection() as connection:
            assert connection._notice_handlers == []
