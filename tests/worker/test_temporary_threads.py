"""The threads of stateless runs go with them: many at once, and none that somebody still needs."""

import asyncio

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.lifecycle import Tasks
from headrace.queue.ends import queue_statements
from headrace.queue.queue import Queue
from headrace.runs.schemas import RunCreate
from headrace.worker.temporary_threads import TemporaryThreads
from tests.following.test_following import Talker
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.pair import open_states
from tests.support.runs import insert_running_run, register_process
from tests.support.waiting import eventually


@pytest.fixture
async def threads(database_url):
    async with open_pool(database_url, pool_max=2) as pool, open_writer(pool) as writer:
        yield TemporaryThreads(Queue(pool, writer), later_seconds=0)


def insert(database, *thread_ids):
    for thread_id in thread_ids:
        database.execute(
            "INSERT INTO threads (thread_id, temporary) VALUES (%s, true)"
            " ON CONFLICT (thread_id) DO UPDATE SET temporary = true",
            (thread_id,),
        )
        database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata)"
            " VALUES (%s, '1', '{}', '{}')",
            (thread_id,),
        )


def left(database):
    threads, checkpoints = database.execute(
        "SELECT ARRAY(SELECT thread_id FROM threads ORDER BY 1),"
        " ARRAY(SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1)"
    ).fetchone()
    assert threads == checkpoints
    return threads


def transactions(database):
    database.execute("SELECT pg_stat_force_next_flush()")
    row = database.execute(
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    return row[0]


async def test_a_thousand_that_end_at_once_leave_the_pool_to_others(threads, database):
    names = [f"t{number}" for number in range(1000)]
    with database.transaction():
        insert(database, *names)
    before = transactions(database)
    await asyncio.gather(*(threads.delete(name) for name in names))
    assert left(database) == []
    # One for the first that came, and five of two hundred each.
    assert transactions(database) - before < 20


async def test_one_that_another_run_has_or_somebody_reads_stays(threads, database):
    owner = register_process(database)
    insert_running_run(database, owner, "busy")
    insert_running_run(database, owner, "read")
    insert(database, "busy", "read", "free")
    database.execute(
        "UPDATE runs SET status = 'success', ended_at = now(),"
        " watched_until = now() + interval '1 minute' WHERE thread_id = 'read'"
    )
    database.execute(
        "UPDATE threads SET status = 'idle', running_run_id = NULL WHERE thread_id = 'read'"
    )
    await threads.delete("busy")
    tasks = Tasks()
    threads.start(tasks)
    for name in ("busy", "read", "free"):
        threads.delete_later(name)
    await eventually(lambda: left(database) == ["busy", "read"])
    await tasks.stop()
    # Whoever followed it here was served from memory.
    await threads.delete("read")
    assert left(database) == ["busy"]


async def test_the_thread_of_a_background_run_goes_soon_after_it(database_url, database):
    talker = Talker()
    events = {"poll_seconds": 0.1}
    async with open_states(database_url, {"talker": talker.graph}, count=1, events=events) as (
        here,
    ):
        body = RunCreate(assistant_id="talker", input={"said": 0})
        run = await here.runs.create(ANONYMOUS, None, body, request_id="", background=True)
        talker.stop()
        outcome = await run.outcome(10)
        assert outcome is not None
        assert outcome.values == {"said": 0}
        await eventually(lambda: left(database) == [])


async def test_what_lost_processes_have_left_is_found(threads, database):
    owner = register_process(database)
    insert_running_run(database, owner, "busy")
    names = [f"old{number}" for number in range(250)]
    with database.transaction():
        insert(database, "busy", "young", "kept", *names)
    database.execute("UPDATE threads SET temporary = false WHERE thread_id = 'kept'")
    database.execute(
        "UPDATE threads SET updated_at = now() - interval '10 minutes' WHERE thread_id <> 'young'"
    )
    await threads.delete_abandoned()
    assert left(database) == ["busy", "kept", "young"]


def test_looking_for_them_reads_no_other_thread(database):
    database.execute(
        "INSERT INTO threads (thread_id) SELECT 'kept' || i FROM generate_series(1, 5000) AS i"
    )
    insert(database, "temporary")
    database.execute("ANALYZE threads")
    statement = queue_statements()["abandoned_temporary_threads"].decode()
    plan = database.execute(f"EXPLAIN {statement}", {"seconds": 300.0, "after": ""}).fetchall()
    assert any("threads_temporary_idx" in line for (line,) in plan), plan


async def test_one_that_cannot_be_deleted_keeps_nobody_waiting(threads, database):
    """A table of the user's refers to it."""
    names = [f"t{number}" for number in range(20)]
    insert(database, *names)
    database.execute("CREATE TABLE bills (thread_id text REFERENCES threads)")
    database.execute("INSERT INTO bills VALUES ('t7')")
    async with asyncio.timeout(10):
        await asyncio.gather(*(threads.delete(name) for name in names))
    assert left(database) == ["t7"]
    insert(database, "t8")
    database.execute("UPDATE threads SET updated_at = now() - interval '1 hour'")
    async with asyncio.timeout(10):
        await threads.delete_abandoned()
    assert left(database) == ["t7"]
