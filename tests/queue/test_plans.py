"""The plans of a flush do not depend on statistics.

A plan is made once per session. If the tables have few rows at that moment, Postgres prefers to
read them whole, and growth alone never makes it think again. So 30,000 runs are started and ended,
without autovacuum, and nobody runs ANALYZE; and then it must be so that no table that grows was
read whole, neither as it lies nor through an index.
"""

import asyncio
from collections.abc import Iterator
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg
import pytest

from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.tally import Tokens, UsageTally
from headrace.db.pool import SharedPool
from headrace.events.event import Event
from headrace.events.log import StoreEvents
from headrace.queue.queue import Queue
from tests.support.chains import CHANNEL, config_of, put
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import DONE, insert_running_run, register_process, run_request
from tests.support.waiting import eventually

#: Every so many runs also write a checkpoint, a task's writes, an event and their tokens.
WRITERS = 20
AT_ONCE = 500

TABLES = (
    *("threads", "runs", "run_events", "run_usage"),
    *("checkpoints", "checkpoint_blobs", "checkpoint_writes"),
)

#: Rows that one run may read of each table on average, however many rows there are. It finds its
#: thread and its own row a few times, and the row before it in an index.
ROWS_PER_RUN = 12

_READS = """
SELECT relname, seq_scan, seq_tup_read, coalesce(idx_tup_fetch, 0),
  (SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes AS one
    WHERE one.relid = pg_stat_user_tables.relid)
FROM pg_stat_user_tables WHERE relname = ANY (%s)
"""


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        # What the test itself reads does not count, nor does it come in late.
        connection.execute("SET track_counts = off")
        for table in TABLES:
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        yield connection


def nothing_known(_database: psycopg.Connection[Any]) -> None:
    """Fresh tables, which nobody has looked at."""


def known_to_be_tiny(database: psycopg.Connection[Any]) -> None:
    """ANALYZE has seen five rows in each table: a page is all there is to read."""
    process_id = register_process(database)
    for number in range(5):
        token = insert_running_run(database, process_id, f"old-{number}")
        for statement in (
            "INSERT INTO run_events (run_id, event_id, attempt, event, data)"
            " VALUES (%(run_id)s, 1, 1, 'e', '')",
            "INSERT INTO run_usage (run_id, attempt, model, thread_id, assistant_id, graph_id)"
            " VALUES (%(run_id)s, 1, 'm', %(thread_id)s, %(run_id)s, 'agent')",
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
            " VALUES (%(thread_id)s, '1', '{}')",
            "INSERT INTO checkpoint_blobs (thread_id, channel, version, type)"
            " VALUES (%(thread_id)s, 'c', '1', 'empty')",
            "INSERT INTO checkpoint_writes"
            " (thread_id, checkpoint_id, task_id, idx, channel, type, blob)"
            " VALUES (%(thread_id)s, '1', 't', 0, 'c', 'empty', '')",
        ):
            database.execute(
                statement.encode(), {"run_id": token.run_id, "thread_id": f"old-{number}"}
            )
    for table in (*TABLES, "assistants", "processes"):
        database.execute(f"VACUUM ANALYZE {table}".encode())


async def many_runs(pool: SharedPool, process_id: UUID, runs: int) -> None:
    """Each thread has two runs: the first one creates it."""
    async with open_writer(pool, lanes=1, linger_seconds=0.0) as writer:
        queue = Queue(pool, writer)
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        places = asyncio.Semaphore(AT_ONCE)

        async def run(thread_id: str, *, writes: bool) -> None:
            attempt = await queue.start_run_if_free(run_request(thread_id), process_id)
            if not writes:
                await queue.end_if_owned(attempt.token, thread_id, DONE)
                return
            tally = UsageTally(attempt.token, thread_id)
            tally.add("model", Tokens(1, 1))
            await writer.queue(
                StoreEvents(thread_id, attempt.token, [Event.stored(1, "e", b"{}", resumable=True)])
            )
            with saver.run(attempt.token) as own:
                await put(saver, thread_id, attempt.number, ["v"])
                await saver.aput_writes(
                    config_of(thread_id, attempt.number), [(CHANNEL, "v")], str(attempt.token)
                )
                await queue.end_if_owned(attempt.token, thread_id, DONE, run=own, usage=tally)

        async def thread(number: int) -> None:
            async with places:
                for _ in range(2):
                    await run(f"thread-{number}", writes=number % WRITERS == 0)

        async with asyncio.TaskGroup() as group:
            for number in range(runs // 2):
                group.create_task(thread(number))
        await saver.stop()


def other_sessions(database: psycopg.Connection[Any]) -> int:
    row = database.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return int(row[0])


# Many thousands of runs keep both processors busy.
@pytest.mark.alone
@pytest.mark.parametrize(("known", "runs"), [(nothing_known, 30_000), (known_to_be_tiny, 10_000)])
async def test_a_flush_never_reads_a_growing_table_whole(database_url, database, known, runs):
    known(database)
    process_id = register_process(database)
    database.execute("SELECT pg_stat_reset()")
    started = perf_counter()
    async with open_pool(database_url, pool_min=1, pool_max=2) as pool:
        await many_runs(pool, process_id, runs)
    # A session reports the rest of what it has read when it ends.
    await eventually(lambda: other_sessions(database) == 0)
    print(f"{runs} runs in {perf_counter() - started:.1f} s")
    ended = database.execute("SELECT count(*) FROM runs WHERE status = 'success'").fetchone()
    assert ended == (runs,)
    for name, scans, read, fetched, by_index in database.execute(_READS, (list(TABLES),)):
        print(f"{name}: {scans} scans read {read}, indexes {by_index}, rows by index {fetched}")
        assert scans == 0, name
        assert max(fetched, by_index) <= ROWS_PER_RUN * runs, name
