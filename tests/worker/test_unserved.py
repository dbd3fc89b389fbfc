"""Runs of a graph that no process executes: told in log, health and metrics, ended if so set."""

import asyncio
import re

import pytest
import structlog.testing

from headrace.observability.slots import StatusBoard
from headrace.queue.queue import Queue
from headrace.worker.queue_depth import QueueDepth
from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import register_process, run_request


@pytest.fixture
async def queue(database_url):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        yield Queue(pool, writer)


def serves(database, *graph_ids):
    """A living process that executes these graphs."""
    database.execute(
        "UPDATE processes SET graph_ids = %s WHERE process_id = %s",
        (list(graph_ids), register_process(database)),
    )


async def wait_for(queue, database, *names, minutes=1):
    """Runs that have been ready for so long."""
    requests = [run_request(name) for name in names]
    for asked in requests:
        await queue.enqueue(asked)
    database.execute("UPDATE threads SET ready_at = now() - make_interval(mins => %s)", (minutes,))
    database.execute("UPDATE runs SET created_at = now() - make_interval(mins => %s)", (minutes,))
    return requests


async def test_a_graph_that_nobody_executes_is_told(queue, database):
    serves(database, "other")
    await wait_for(queue, database, "a", "b")
    depth = QueueDepth(queue, StatusBoard(None, stale_seconds=5.0))
    with structlog.testing.capture_logs() as lines:
        await depth.measure()
        await depth.measure()
    assert depth.figures is not None
    (graph,) = depth.figures.unserved
    assert (graph.graph_id, graph.pending) == ("agent", 2)
    assert 60 <= graph.oldest_ready_seconds < 90
    told = [line for line in lines if line["event"] == "graph_not_served"]
    assert [line["graph_id"] for line in told] == ["agent"]


@pytest.mark.parametrize("graph_ids", [("agent",), None])
async def test_a_graph_that_somebody_may_execute_is_not(queue, database, graph_ids):
    """None: a process of a release that does not say."""
    serves(database, "other")
    serves(database, *graph_ids) if graph_ids else register_process(database)
    await wait_for(queue, database, "a")
    assert (await queue.figures()).unserved == ()
    assert await queue.takeover.end_unserved_runs(10) == []


async def test_runs_that_waited_too_long_are_ended(queue, database):
    serves(database, "other")
    first, behind = await wait_for(queue, database, "t", "t", minutes=10)
    await queue.enqueue(run_request("young"))
    ended = await queue.takeover.end_unserved_runs(300)
    assert {run.run_id for run in ended} == {first.run_id, behind.run_id}
    assert all(run.status == "error" for run in ended)
    row = database.execute(
        "SELECT status, ready_at, error->>'error', error->>'message' FROM threads"
        " WHERE thread_id = 't'"
    ).fetchone()
    assert row[:3] == ("error", None, "GraphNotServed")
    assert "agent" in row[3]
    assert database.execute("SELECT status FROM runs WHERE thread_id = 'young'").fetchone() == (
        "pending",
    )


async def test_health_and_metrics_name_the_graph_and_the_run_ends(database_url, database):
    manifest = GRAPHS / "hostile.json"
    worker = {"unserved_timeout_seconds": 30, "sweep_seconds": 0.1, "lease_seconds": 0.5}
    worker["heartbeat_seconds"] = 0.1
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        (asked,) = await wait_for(Queue(pool, writer), database, "t", minutes=0)
    database.execute("UPDATE threads SET ready_at = now() - interval '20 seconds'")
    async with app_client(settings_for(database_url, manifest, worker=worker)) as client:
        async with asyncio.timeout(10):
            while not (graphs := (await client.get("/health")).json()["queue"]["unserved_graphs"]):
                await asyncio.sleep(0.05)
        assert (graphs[0]["graph_id"], graphs[0]["pending"]) == ("agent", 1)
        metrics = (await client.get("/metrics")).text
        assert re.search(r'^headrace_runs_unserved\{graph="agent"\} 1\.0$', metrics, re.M)
        waiting = asyncio.create_task(client.get(f"/threads/t/runs/{asked.run_id}/join"))
        database.execute("UPDATE threads SET ready_at = now() - interval '1 hour'")
        database.execute("UPDATE runs SET created_at = now() - interval '1 hour'")
        async with asyncio.timeout(15):
            answer = await waiting
    assert answer.json()["__error__"]["error"] == "GraphNotServed"
