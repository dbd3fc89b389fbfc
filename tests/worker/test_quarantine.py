"""A run that processes were lost with again has a process to itself; others get their turn."""

import asyncio
from dataclasses import replace

import psycopg
import psycopg.types.json

from headrace.queue.rows import QueuedRun
from tests.support.runs import expire_process, register_process, run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker

LEASE = {"lease_seconds": 3.0, "heartbeat_seconds": 0.5}


def slow(thread_id, seconds=0.1):
    kwargs = {**KWARGS, "input": {"seconds": seconds}}
    return replace(run_request(thread_id), kwargs=kwargs)


def suspects(database, *names, seconds=0.1, failures=2):
    """Runs that wait, and that so many processes were lost with."""
    owner = register_process(database, lost=True)
    for name in names:
        asked = slow(name, seconds)
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner, status, ready_at, ready_run_id,"
            " ready_graph_id) VALUES (%s, 'default', 'anonymous', 'busy', now(), %s, 'agent')",
            (name, asked.run_id),
        )
        database.execute(
            "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, status,"
            " attempt, failures, multitask_strategy, metadata, kwargs)"
            " VALUES (%s, %s, %s, 'agent', 'default', 'anonymous', 'pending', 1, %s, 'enqueue',"
            " '{}', %s)",
            (
                asked.run_id,
                name,
                asked.assistant_id,
                failures,
                psycopg.types.json.Jsonb(asked.kwargs),
            ),
        )
    expire_process(database, owner)


def statuses(database):
    return dict(database.execute("SELECT thread_id, status FROM runs").fetchall())


def running(database):
    return {name for name, status in statuses(database).items() if status == "running"}


async def test_suspects_are_executed_one_by_one(database, database_url):
    names = [f"s{n}" for n in range(4)]
    suspects(database, *names)
    together = 0
    async with open_worker(database_url, **LEASE):
        while set(statuses(database).values()) != {"success"}:
            together = max(together, len(running(database)))
            await asyncio.sleep(0.01)
    assert together == 1


async def test_runs_that_one_process_was_lost_with_go_on_together(database, database_url):
    names = [f"r{n}" for n in range(4)]
    suspects(database, *names, seconds=5, failures=1)
    async with open_worker(database_url, **LEASE):
        await eventually(lambda: running(database) == set(names))


async def test_where_two_failures_end_a_run_the_first_makes_a_suspect(database, database_url):
    suspects(database, "s1", "s2", seconds=0.3, failures=1)
    together = 0
    async with open_worker(database_url, **LEASE, max_failures=2):
        while set(statuses(database).values()) != {"success"}:
            together = max(together, len(running(database)))
            await asyncio.sleep(0.01)
    assert together == 1


async def test_rescued_runs_go_on_before_those_that_wait(database, database_url):
    """Also where a process is full, and the shares of callers say otherwise."""
    async with open_worker(database_url, **LEASE, max_concurrent_runs=1, share=0.5) as worker:
        await worker.submit(slow("first", 1))
        for number in range(3):
            assert isinstance(await worker.submit(slow(f"waits{number}")), QueuedRun)
        suspects(database, "rescued", failures=1)
        await eventually(lambda: set(statuses(database).values()) == {"success"})
    rows = database.execute("SELECT thread_id FROM runs ORDER BY ended_at").fetchall()
    assert [name for (name,) in rows][1] == "rescued"


async def test_nothing_begins_beside_a_suspect_until_it_has_lived_long_enough(
    database, database_url
):
    suspects(database, "suspect", seconds=1)
    async with open_worker(database_url, **LEASE, apart_seconds=1) as worker:
        await eventually(lambda: running(database) == {"suspect"})
        began = asyncio.get_running_loop().time()
        assert isinstance(await worker.submit(slow("fresh")), QueuedRun)
        await eventually(lambda: statuses(database)["fresh"] == "success")
        assert asyncio.get_running_loop().time() - began > 0.5
        # It was let in before the suspect had ended.
        assert statuses(database)["suspect"] == "running"


async def test_a_busy_process_makes_room(database, database_url):
    """A single process that is never idle takes no others for a while, then the suspect."""
    async with open_worker(database_url, **LEASE, apart_patience_seconds=0.5) as worker:
        await worker.submit(slow("long", 2))
        suspects(database, "suspect")
        await eventually(lambda: statuses(database)["suspect"] == "success")
        assert statuses(database)["long"] == "running"


async def test_others_have_a_turn_between_two_suspects(database, database_url):
    suspects(database, "s1", "s2", seconds=0.3)
    async with open_worker(database_url, **LEASE) as worker:
        await eventually(lambda: len(running(database)) == 1)
        await worker.submit(slow("fresh"))
        await eventually(lambda: set(statuses(database).values()) == {"success"})
    rows = database.execute("SELECT thread_id FROM runs ORDER BY ended_at").fetchall()
    assert [name for (name,) in rows][1] == "fresh"
