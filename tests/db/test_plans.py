"""No statement reads a whole table that grows, whatever Postgres knows about the table."""

import asyncio
import inspect
import json
import pkgutil
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.resources import files
from typing import Any

import psycopg
import pytest

import headrace
from headrace.auth.row_scope import scoped_statements
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import Statement
from headrace.following.run_watcher import Watcher
from headrace.following.thread_watcher import ThreadWatcher
from headrace.threads.removal import ThreadRemoval
from tests.db.plans import GRAPHS, ROWS, Steps, grow, quiet_tables, reads
from tests.support.apps import app_client_and_state, settings_for
from tests.support.database import open_pool
from tests.support.engine import open_writer

#: A step may read so many rows of a table: some thousands where a list looks through the newest
#: threads, or a sweeper through the oldest runs.
_MOST = ROWS // 3

_REPORT = "SELECT pg_stat_force_next_flush()"
#: A busy connection is given back when its statement has ended.
_CONNECTION_SECONDS = 20.0

#: Steps that read most of a table, and why.
_WHOLE = {
    "assistants_are_listed": "no index has their order; they are few",
    "crons_are_sorted_and_counted": "as threads",
    "store_items_live": "LangGraph's search: Postgres believes that each item has the prefix",
    "threads_are_sorted_and_counted": "a count counts; no index has this order",
}

_QUEUE = "headrace.queue/queue.sql: "
#: Statements that the steps must have sent; else the figures say nothing.
_SENT = {
    "LATEST",
    "LATEST_SMALL",
    "headrace.crons/due.sql: seconds_to_next",
    "headrace.crons/due.sql: take_due_crons",
    "headrace.threads/threads.sql: get_threads",
    "headrace.threads/threads.sql: insert_threads",
    *(
        _QUEUE + name
        for name in (
            "cancel_remembered_runs",
            "claim_runs_of_locked_threads",
            "lock_ready_threads",
            "lock_slots",
            "lock_ready_threads_of_callers",
            "lock_thread_of_suspect",
            "lock_threads_of_cancelled",
            "lock_threads_of_lost_runs",
            "lock_threads_of_rescued",
            "look_for_lost_runs",
            "move_slots",
            "overdue_crons",
            "overdue_webhooks",
            "processes_to_take_from",
            "queue_figures",
            "ready_callers",
            "refresh_locked_threads",
            "requests_to_processes",
            "take_lost_runs",
            "threads_of_overdue",
            "threads_to_mend",
        )
    ),
}


@asynccontextmanager
async def _opened(url, folder, database):
    """The steps, and all pools on which they send statements."""
    (folder / "plans.py").write_text(GRAPHS)
    names = ("plain", "asking", "slow")
    manifest = folder / "langgraph.json"
    manifest.write_text(json.dumps({"graphs": {n: f"{folder}/plans.py:{n}" for n in names}}))
    settings = settings_for(
        url,
        manifest,
        database={"url": url, "pool_min": 1, "pool_max": 4},
        events={"poll_seconds": 0.2},
        worker={"sweep_seconds": 0.5},
        observability={"log_level": "error"},
    )
    async with AsyncExitStack() as stack:
        here, state_here = await stack.enter_async_context(app_client_and_state(settings))
        there, state_there = await stack.enter_async_context(app_client_and_state(settings))
        pool = await stack.enter_async_context(open_pool(url, pool_max=2))
        writer = await stack.enter_async_context(open_writer(pool))
        saver = GroupCommitSaver(pool, writer, observe=lambda operation, seconds: None)
        stack.push_async_callback(saver.stop)
        yield (
            Steps(
                here,
                there,
                pool,
                saver,
                writer,
                state_here.get(ThreadRemoval),
                database,
                (state_there.get(Watcher), state_there.get(ThreadWatcher)),
            ),
            (state_here.get(SharedPool), state_there.get(SharedPool), pool),
        )


async def _reported(pools, database):
    """The figures of the tables, after the sessions of these pools have reported theirs.

    A session reports what it has read only about once a second. What one of them kept to itself
    would be held against a later step.
    """
    for pool in pools:
        async with AsyncExitStack() as stack:
            taken: list[Connection] = []
            while len(taken) < pool.get_stats()["pool_size"]:
                connection = await pool.getconn(_CONNECTION_SECONDS, checked=False)
                stack.push_async_callback(pool.putconn, connection)
                taken.append(connection)
            for connection in taken:
                await connection.execute(_REPORT, prepare=False)
    return reads(database)


@pytest.mark.parametrize("known", ["nothing", "tiny", "restored"])
async def test_no_statement_reads_a_whole_table(
    known, database_url, database, tmp_path, monkeypatch
):
    """``nothing``: the tables were never analysed, and then they grow. ``tiny``: they were, when
    they had a few rows. ``restored``: they have rows and no statistics when the servers start.
    """
    quiet_tables(database)
    # What the test itself reads, when it fills the tables for example, does not count.
    database.execute("SET track_counts = off")
    sent = set()
    # Each statement is prepared at once, and its first plan is kept, as otherwise the eleventh one.
    monkeypatch.setattr("headrace.db.pool_builder._PREPARE_THRESHOLD", 0)
    database.execute(
        f"ALTER DATABASE {database.info.dbname} SET plan_cache_mode = force_generic_plan"
    )
    execute = psycopg.AsyncCursor.execute

    async def noting(self, query, *args, **kwargs):
        sent.add(query if isinstance(query, Statement) else None)
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noting)
    if known == "restored":
        await asyncio.to_thread(grow, database)
    async with _opened(database_url, tmp_path, database) as (steps, pools):
        if known != "restored":
            if known == "tiny":
                await steps.once()
                database.execute("ANALYZE")
            await steps.once()
            await asyncio.to_thread(grow, database)
        sent.clear()
        found: dict[str, Any] = {}
        for name, step in steps.all().items():
            before = await _reported(pools, database)
            await step()
            after = await _reported(pools, database)
            large = {
                table: figures.since(before[table])
                for table, figures in after.items()
                if figures.since(before[table]).rows > _MOST
            }
            if large and name not in _WHOLE:
                found[name] = large
    assert found == {}
    unsent = {name for name, text in _statements().items() if text not in sent}
    assert unsent.isdisjoint(_SENT)


def _statements():
    """All statements of headrace by name."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(headrace.__path__, "headrace."):
        if module.ispkg:
            for file in files(module.name).iterdir():
                if file.name.endswith(".sql") and "-- name:" in file.read_text():
                    found |= {
                        f"{module.name}/{file.name}: {name}": text
                        for name, text in scoped_statements(module.name, file.name).items()
                    }
        elif module.name != "headrace.__main__":
            for name, value in inspect.getmembers(import_module(module.name)):
                if isinstance(value, Statement):
                    found.setdefault(f"{name}", value)
    return found
