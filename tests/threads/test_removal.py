"""A thread is taken from whoever executes its run, and nothing is written for it afterwards."""

import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest
from langgraph.store.memory import InMemoryStore

from headrace.auth.principal import ANONYMOUS
from headrace.checkpoints.fence import process_key
from headrace.db.engine import Sessions, build_engine
from headrace.errors import LeaseLost, ThreadNotFound
from headrace.event_settings import EventSettings
from headrace.following.following import Following
from headrace.following.run_watcher import Watcher
from headrace.graphs.registry import GraphRegistry
from headrace.lifecycle import Tasks
from headrace.notices.notifier import PollingNotifier
from headrace.states.reader import StateReader
from headrace.threads.reader import ThreadReader
from headrace.threads.removal import ThreadRemoval
from headrace.threads.repository import ThreadRepository
from headrace.threads.run_stops import RunStops
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.unavailable_errors import RunStillStopping
from tests.support.chains import put
from tests.support.database import open_pool
from tests.support.engine import open_saver, open_writer
from tests.support.runs import insert_running_run, register_process
from tests.support.waiting import eventually
from tests.support.workers import open_worker


@asynccontextmanager
async def removing(url, **options):
    """The process that executes the runs of the tests does not listen: no run stops when asked."""
    async with (
        open_pool(url) as pool,
        open_writer(pool) as writer,
        open_saver(pool) as saver,
        open_worker(url, enabled=False) as worker,
    ):
        registry = await GraphRegistry.open([], checkpointer=saver, store=InMemoryStore())
        watcher = Watcher(pool, PollingNotifier(), EventSettings(), Tasks())
        following = Following(watcher, StateReader(registry, saver))
        sessions = Sessions(build_engine(pool), timeout_seconds=10)
        reader = ThreadReader(pool, acquire_timeout_seconds=5, timeout_seconds=10)
        stops = RunStops(worker, following, ThreadRepository(sessions, pool, writer, reader))
        search = ThreadSearchRepository(pool, timeout_seconds=5)
        yield ThreadRemoval(pool, writer, saver, stops, search, **options), saver


def rows(database, thread_id):
    found = database.execute(
        "SELECT count(*) FROM (SELECT FROM threads WHERE thread_id = %(t)s"
        " UNION ALL SELECT FROM runs WHERE thread_id = %(t)s"
        " UNION ALL SELECT FROM checkpoints WHERE thread_id = %(t)s"
        " UNION ALL SELECT FROM checkpoint_blobs WHERE thread_id = %(t)s"
        " UNION ALL SELECT FROM run_events) AS rows",
        {"t": thread_id},
    ).fetchone()
    return found[0]


async def test_a_run_that_does_not_stop_writes_nothing_after_its_thread_is_gone(
    database, database_url
):
    token = insert_running_run(database, register_process(database), "t")
    database.execute(
        "INSERT INTO run_events (run_id, event_id, attempt, event, data)"
        " VALUES (%s, 1, 1, 'values', 'null')",
        (token.run_id,),
    )
    async with removing(database_url) as (removal, saver):
        with saver.run(token, durability="sync"):
            await put(saver, "t", 1, ["v"])
            assert rows(database, "t") == 5
            await removal.delete(ANONYMOUS, "t")
            assert rows(database, "t") == 0
            with pytest.raises(LeaseLost):
                await put(saver, "t", 2, ["v"])
        assert rows(database, "t") == 0
        with pytest.raises(ThreadNotFound):
            await removal.delete(ANONYMOUS, "652a4154-7284-4ce2-b013-019f790080f5")


async def test_a_flush_in_flight_is_waited_for(database, database_url):
    token = insert_running_run(database, register_process(database), "t")
    key = process_key(token.process_id)
    async with removing(database_url) as (removal, _):
        with psycopg.connect(database_url) as flush:
            flush.execute("SELECT pg_advisory_xact_lock_shared(%s)", (key,))
            deleting = asyncio.create_task(removal.delete_if_there(ANONYMOUS, "t"))
            await eventually(
                lambda: database.execute(
                    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).fetchone()
            )
            flush.execute(
                "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
                " VALUES ('t', '1', '{}')"
            )
        assert await deleting is True
    assert rows(database, "t") == 0


async def test_one_that_never_ends_is_no_reason_to_wait_for_ever(database, database_url):
    token = insert_running_run(database, register_process(database), "t")
    async with removing(database_url, lock_timeout_seconds=0.1) as (removal, _):
        with psycopg.connect(database_url) as flush:
            flush.execute(
                "SELECT pg_advisory_xact_lock_shared(%s)", (process_key(token.process_id),)
            )
            with pytest.raises(RunStillStopping):
                await removal.delete(ANONYMOUS, "t")
    assert rows(database, "t") == 2


async def test_another_tenants_thread_stays(database, database_url):
    database.execute("INSERT INTO threads (thread_id, tenant) VALUES ('theirs', 'other')")
    async with removing(database_url) as (removal, _):
        assert await removal.delete_if_there(ANONYMOUS, "theirs") is False
    assert rows(database, "theirs") == 1
