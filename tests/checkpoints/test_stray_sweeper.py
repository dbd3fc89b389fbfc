"""No row outlives its thread: deletions wait for large flushes, and what slips through is swept."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.stray_sweeper import Strays, StraySweeper
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.errors import CheckpointTooLarge, LeaseLost
from headrace.unavailable_errors import DatabaseUnavailable
from tests.support.chains import CHANNEL, identity, put, put_writes
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_writer
from tests.support.runs import insert_running_run, register_process
from tests.support.waiting import eventually

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


def rows(database: psycopg.Connection[Any], thread_id: str) -> int:
    found = (
        database.execute(
            f"SELECT count(*) FROM {table} WHERE thread_id = %s", (thread_id,)
        ).fetchone()
        for table in TABLES
    )
    return sum(int(row[0]) for row in found if row is not None)


@asynccontextmanager
async def held_back(database: psycopg.Connection[Any], url: str, thread_id: str):
    """Whoever writes the first blob of this thread waits until the block ends."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute(
            "INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
            " VALUES (%s, '', %s, %s, 'null', NULL)",
            (thread_id, CHANNEL, identity(1)),
        )
        yield
        await other.rollback()


def somebody_waits(database: psycopg.Connection[Any]) -> bool:
    found = database.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    ).fetchone()
    return found is not None and found[0] != 0


async def test_a_deletion_waits_for_a_large_flush(database, database_url):
    async with (
        open_pool(database_url, pool_min=2, pool_max=4) as pool,
        open_writer(pool, lanes=1, large_value_bytes=1024) as writer,
    ):
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        token = insert_running_run(database, register_process(database), "large")

        async def write():
            with saver.run(token, durability="sync"):
                await put(saver, "large", 1, ["x" * 10_000])

        async with held_back(database, database_url, "large"):
            writing = asyncio.create_task(write())
            await eventually(lambda: somebody_waits(database))
            database.execute("SET lock_timeout = '100ms'")
            with pytest.raises(LockNotAvailable):
                database.execute("DELETE FROM threads WHERE thread_id = 'large'")
        await writing
        database.execute("DELETE FROM threads WHERE thread_id = 'large'")
        assert rows(database, "large") > 0
        # Its run is gone: nothing more is written for it.
        with saver.run(token, durability="sync"), pytest.raises(LeaseLost):
            await put(saver, "large", 2, ["x" * 10_000])


async def test_what_a_flush_without_an_answer_leaves_is_swept(database, database_url):
    async with (
        open_pool(database_url, pool_min=2, pool_max=4) as pool,
        open_writer(pool, lanes=1, flush_timeout_seconds=0.3, retry_seconds=0) as writer,
    ):
        writer.strays.after_seconds = 0
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        token = insert_running_run(database, register_process(database), "lost")
        async with held_back(database, database_url, "lost"):
            with saver.run(token, durability="sync"), pytest.raises(DatabaseUnavailable):
                await put(saver, "lost", 1, ["v"])
        assert writer.strays.due() == ["lost"]
        database.execute("DELETE FROM threads WHERE thread_id = 'lost'")
        # As the server may have carried it out since; and a graph that was run past the API.
        for thread_id in ("lost", "adopted-later"):
            await put(saver, thread_id, 1, ["v"])
            await put_writes(saver, thread_id, 1, "w")
        sweeper = StraySweeper(pool, writer.strays)
        assert await sweeper.sweep() == 3
        assert rows(database, "lost") == 0
        assert rows(database, "adopted-later") == 3
        assert await sweeper.sweep() == 0


async def test_a_thread_that_is_there_keeps_its_rows(database, database_url):
    async with open_pool(database_url, pool_min=1, pool_max=2) as pool, open_writer(pool) as writer:
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        insert_running_run(database, register_process(database), "there")
        await put(saver, "there", 1, ["v"])
        strays = Strays(after_seconds=0)
        strays.remember(["there"])
        assert await StraySweeper(pool, strays).sweep() == 0
        assert rows(database, "there") == 2
        assert strays.due() == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_what_is_too_large_is_not_written_and_nothing_after_it(
    database, database_url, engine
):
    thread_id = str(uuid4())
    async with open_pool(database_url, pool_min=1, pool_max=2) as pool, open_writer(pool) as writer:
        kind = UpstreamSaver if engine == "upstream" else GroupCommitSaver
        saver = kind(
            pool, writer, observe=lambda operation, seconds: None, max_checkpoint_bytes=10_000
        )
        token = insert_running_run(database, register_process(database), thread_id)
        with saver.run(token) as run:
            await put(saver, thread_id, 1, ["small"])
            with pytest.raises(CheckpointTooLarge, match=f"'{CHANNEL}', of 2000. bytes.*setting"):
                await put(saver, thread_id, 2, ["x" * 20_000])
            with pytest.raises(CheckpointTooLarge):
                await put(saver, thread_id, 3, ["small"])
            with pytest.raises(CheckpointTooLarge):
                await run.committed()
        await writer.settled(thread_id)
        with saver.run(token), pytest.raises(CheckpointTooLarge):
            await put_writes(saver, thread_id, 1, b"x" * 20_000)
        await writer.settled(thread_id)
        with saver.run(token), pytest.raises(CheckpointTooLarge):
            # What has no blob of its own counts too.
            await put(saver, thread_id, 4, "x" * 20_000)
        await writer.settled(thread_id)
    assert rows(database, thread_id) <= 2
