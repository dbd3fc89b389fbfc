"""Connections whose answer is lost, though something acknowledges all that is sent."""

import asyncio
from time import monotonic

import psycopg
import pytest
from psycopg.generators import execute
from psycopg.waiting import Wait
from structlog.testing import capture_logs

from headrace.db.logins import Login
from headrace.db.silence import Silence
from headrace.lifecycle import Tasks
from tests.support.apps import app_client_and_state, settings_for, write_manifest
from tests.support.database import open_pool
from tests.support.proxy import proxied
from tests.support.waiting import eventually

SECONDS = 0.4
BUFFER = 64 * 1024


@pytest.fixture
async def watched(database_url):
    """A proxy, and a pool behind it that is watched; what was counted."""
    tasks, ended = Tasks(), []
    async with (
        proxied(database_url, buffer_bytes=BUFFER) as proxy,
        open_pool(proxy.url) as pool,
    ):
        Silence(pool, seconds=SECONDS, count=lambda: ended.append(1)).watch(tasks)
        try:
            yield proxy, pool, ended
        finally:
            await tasks.stop()


async def test_a_lost_question_ends_its_connection(watched):
    proxy, pool, ended = watched

    async def ask() -> None:
        async with pool.connection() as connection:
            proxy.half_open(acknowledged=True)
            await connection.execute("SELECT 1")

    began = monotonic()
    with capture_logs() as lines, pytest.raises(psycopg.OperationalError):
        await ask()
    assert monotonic() - began > SECONDS
    assert len(ended) == 1
    (line,) = (one for one in lines if one["event"] == "silent_connection_ended")
    assert line["waited_seconds"] >= SECONDS
    assert line["backend"] > 0
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


async def test_a_lost_answer_ends_its_connection(watched, database):
    proxy, pool, ended = watched

    async def ask() -> None:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.5)")

    asking = asyncio.ensure_future(ask())
    await eventually(
        lambda: database.execute(
            "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        ).fetchall()
    )
    proxy.half_open(acknowledged=True)
    with pytest.raises(psycopg.OperationalError):
        await asking
    assert len(ended) == 1


async def test_a_transaction_whose_commit_is_lost_is_ended(watched):
    proxy, pool, ended = watched

    async def change() -> None:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT 1")
            proxy.half_open(acknowledged=True)

    with pytest.raises(psycopg.OperationalError):
        await change()
    assert len(ended) == 1


@pytest.mark.parametrize("work", ["SELECT pg_sleep(1.5)", "SELECT pg_advisory_xact_lock(7)"])
async def test_work_that_takes_long_is_left_alone(watched, database_url, work):
    _, pool, ended = watched
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT pg_advisory_lock(7)")

        async def unlock() -> None:
            await asyncio.sleep(1.5)
            await other.execute("SELECT pg_advisory_unlock(7)")

        unlocking = asyncio.ensure_future(unlock())
        async with pool.connection() as connection:
            await connection.execute(work)
        await unlocking
    assert ended == []


async def test_a_process_that_is_late_to_read_ends_nothing(database_url):
    """The answer has come, but the process has not looked yet."""
    ended = []
    async with open_pool(database_url, pool_min=1) as pool, pool.connection() as connection:
        silence = Silence(pool, seconds=0.1, count=lambda: ended.append(1))
        # As if the task that waits for the answer had no turn to read it.
        looked = asyncio.Event()

        def reads_late():
            connection.pgconn.send_query(b"SELECT 1")
            connection.pgconn.flush()
            while not looked.is_set():
                yield Wait.R
            return (yield from execute(connection.pgconn))

        reading = asyncio.ensure_future(connection.wait(reads_late()))
        await asyncio.sleep(0.01)
        await silence.look()
        await asyncio.sleep(0.2)
        await silence.look()
        looked.set()
        await reading
    assert ended == []


async def test_where_postgres_does_not_tell_nothing_is_ended(database_url, database):
    database.execute(f"ALTER DATABASE {database.info.dbname} SET track_activities = off")
    ended = []
    async with open_pool(database_url, pool_min=1) as pool, pool.connection() as connection:
        silence = Silence(pool, seconds=0.1, count=lambda: ended.append(1))
        working = asyncio.ensure_future(connection.execute("SELECT pg_sleep(2)"))
        for _ in range(2):
            await asyncio.sleep(0.2)
            await silence.look()
        await working
    assert ended == []


async def test_a_copy_that_is_fed_slowly_is_left_alone(watched):
    _, pool, ended = watched
    async with pool.connection() as connection, connection.cursor() as cursor:
        await cursor.execute("CREATE TEMPORARY TABLE fed (word text)")
        async with cursor.copy("COPY fed FROM STDIN") as copy:
            await copy.write_row(("one",))
            await asyncio.sleep(2.5)
            await copy.write_row(("two",))
        await cursor.execute("SELECT count(*) FROM fed")
        assert await cursor.fetchone() == (2,)
    assert ended == []


async def test_many_statements_in_turn_are_no_silence(watched):
    _, pool, ended = watched
    async with pool.connection() as connection:
        ends = monotonic() + 2.5 * SECONDS
        while monotonic() < ends:
            await connection.execute("SELECT pg_sleep(0.1)")
    assert ended == []


async def test_nothing_is_concluded_while_the_database_is_away(watched):
    proxy, pool, ended = watched

    async def ask() -> None:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")

    async with pool.connection() as connection:
        # Everything is kept, and passed on later.
        proxy.stall()
        asking = asyncio.ensure_future(connection.execute("SELECT 1"))
        await asyncio.sleep(3 * SECONDS)
        assert not asking.done()
        proxy.flow()
        await asking
    await ask()
    assert ended == []


async def test_a_request_whose_question_is_lost_is_answered(database_url, tmp_path):
    manifest = write_manifest(tmp_path)
    async with proxied(database_url) as proxy:
        settings = settings_for(
            proxy.url, manifest, database={"url": proxy.url, "silent_seconds": 1}
        )
        async with app_client_and_state(settings) as (client, _):
            made = await client.post("/threads", json={})
            thread_id = made.json()["thread_id"]
            # Its connection takes the question of the next request.
            proxy.half_open(acknowledged=True)
            asked = await asyncio.wait_for(client.get(f"/threads/{thread_id}"), 30)
            assert asked.status_code == 200
            await eventually(
                lambda: _value(client, "headrace_silent_connections_total"), seconds=30
            )
            # At its end the process need not wait for its lease's connection.
            proxy.cut()


async def _value(client, name):
    lines = (await client.get("/metrics")).text.splitlines()
    return any(line.startswith(name) and not line.endswith(" 0.0") for line in lines)


async def test_a_pipeline_that_its_user_leaves_open_is_left_alone(watched):
    _, pool, ended = watched
    async with pool.connection() as connection, connection.pipeline():
        cursor = await connection.execute("SELECT 1")
        await asyncio.sleep(2.5)
        assert await cursor.fetchone() == (1,)
    assert ended == []


async def test_rows_that_their_reader_takes_slowly_are_left_alone(watched):
    _, pool, ended = watched
    async with pool.connection() as connection, connection.transaction():
        rows = []
        async for row in connection.cursor().stream("SELECT generate_series(1, 6)"):
            rows.append(row)
            await asyncio.sleep(0.5)
        await connection.execute("SELECT 1")
    assert len(rows) == 6
    assert ended == []


async def test_a_question_that_takes_long_to_send_is_left_alone(watched):
    proxy, pool, ended = watched
    async with pool.connection() as connection:
        proxy.delay_seconds = 0.1
        cursor = await connection.execute("SELECT length(%s)", ("x" * 8_000_000,))
        assert await cursor.fetchone() == (8_000_000,)
    assert ended == []


async def test_an_answer_that_takes_long_to_come_is_left_alone(database_url):
    """Postgres has sent all of it: its kernel and the proxy keep the rest."""
    tasks, ended = Tasks(), []
    async with proxied(database_url) as proxy, open_pool(proxy.url) as pool:
        Silence(pool, seconds=1.5, count=lambda: ended.append(1)).watch(tasks)
        try:
            async with pool.connection() as connection:
                proxy.delay_seconds = 1.0
                # New connections are not held up.
                pool.login = Login(database_url)
                cursor = await connection.execute("SELECT repeat('x', 1000000)")
                row = await cursor.fetchone()
                proxy.delay_seconds = 0.0
        finally:
            await tasks.stop()
    assert row is not None
    assert len(row[0]) == 1_000_000
    assert ended == []


async def test_statements_of_another_cursor_are_no_silence(watched):
    proxy, pool, ended = watched
    proxy.delay_seconds = 0.05
    async with pool.connection() as connection:
        ends = monotonic() + 4
        while monotonic() < ends:
            await psycopg.AsyncRawCursor(connection).execute("SELECT 1")
    assert ended == []
