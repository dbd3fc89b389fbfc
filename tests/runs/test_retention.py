"""Ended runs whose time is over are deleted while their thread lives on; nobody needs them then."""

import time
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from pydantic import ValidationError

from headrace.ids import earliest_uuid7, uuid7
from headrace.retention_settings import RetentionSettings
from headrace.runs.retention import RunSweeper
from tests.support.apps import app_client, settings_for
from tests.support.database import open_pool
from tests.support.graphs.graphs import agent, stepwise
from tests.support.live import GRAPHS
from tests.support.pair import open_states
from tests.support.runs import insert_running_run, register_process
from tests.support.waiting import eventually

DAY = 86400
HELLO = {"messages": [("user", "hi")]}


def id_of(days_ago):
    """A run's id as it was made then."""
    return UUID(int=earliest_uuid7(time.time() - days_ago * DAY).int | uuid7().int & (1 << 62) - 1)


def insert_run(database, thread_id, *, days_ago, status="success", **columns):
    run_id = id_of(days_ago)
    database.execute(
        "INSERT INTO threads (thread_id) VALUES (%s) ON CONFLICT DO NOTHING", (thread_id,)
    )
    ended = None if status in ("pending", "running") else -days_ago * DAY
    given = {
        "run_id": run_id,
        "thread_id": thread_id,
        "assistant_id": UUID(int=1),
        "graph_id": "agent",
        "status": status,
        **columns,
    }
    database.execute(
        f"INSERT INTO runs ({', '.join(given)}, ended_at)"
        f" VALUES ({', '.join(['%s'] * len(given))}, now() + make_interval(secs => %s))",
        (*given.values(), ended),
    )
    return run_id


def run_ids(database):
    return {row[0] for row in database.execute("SELECT run_id FROM runs")}


def sweeper(state, *, keep_days=7, limit=1000, counted=None):
    return RunSweeper(
        state.pool,
        keep_seconds=keep_days * DAY,
        interval_seconds=1,
        limit=limit,
        count=(counted if counted is not None else []).append,
    )


@asynccontextmanager
async def opened(url, **groups):
    async with open_states(url, {"agent": agent, "stepwise": stepwise}, **groups) as states:
        yield states


async def test_ended_runs_go_when_their_time_is_over_and_what_may_be_needed_stays(
    database, database_url
):
    for status in ("success", "error", "timeout", "interrupted"):
        insert_run(database, "t", days_ago=8, status=status)
    young = insert_run(database, "t", days_ago=6)
    # Made long ago, and over since a moment.
    late = insert_run(database, "t", days_ago=9)
    database.execute("UPDATE runs SET ended_at = now() WHERE run_id = %s", (late,))
    waiting = insert_run(database, "waits", days_ago=30, status="pending")
    # What follows one another on a busy thread may name what the one before has written.
    database.execute("UPDATE threads SET status = 'busy' WHERE thread_id = 'waits'")
    before_it = insert_run(database, "waits", days_ago=31)
    followed = insert_run(database, "t", days_ago=8)
    database.execute(
        "UPDATE runs SET watched_until = now() + interval '1 minute' WHERE run_id = %s", (followed,)
    )
    lapsed = insert_run(database, "t", days_ago=8)
    database.execute(
        "UPDATE runs SET watched_until = now() - interval '7 days' WHERE run_id = %s", (lapsed,)
    )
    resumable = insert_run(database, "t", days_ago=8)
    database.execute(
        "INSERT INTO run_events (run_id, event_id, attempt, event, data)"
        " VALUES (%s, 1, 1, 'values', '{}')",
        (resumable,),
    )
    keyed = insert_run(database, "t", days_ago=8)
    database.execute(
        "INSERT INTO idempotency_keys (tenant, route, key, body_sha256, run_id, thread_id)"
        " VALUES ('default', 'r', 'k', '', %s, 't')",
        (keyed,),
    )
    running = insert_running_run(database, register_process(database), "busy").run_id
    kept = {young, late, waiting, before_it, followed, resumable, keyed, running}
    counted: list[int] = []
    async with opened(database_url, count=1) as (state,):
        sweep = sweeper(state, counted=counted)
        assert await sweep.sweep() == 5
        assert kept == run_ids(database)
        assert sum(counted) == 5
        # Once nobody needs them any more they go too, and their threads stay.
        database.execute("DELETE FROM run_events")
        database.execute("DELETE FROM idempotency_keys")
        assert await sweep.sweep() == 2
        assert {young, late, waiting, before_it, followed, running} == run_ids(database)
    (threads,) = database.execute("SELECT count(*) FROM threads").fetchone()
    assert threads == 3


async def test_a_round_is_bounded_and_the_next_goes_on(database, database_url):
    kept = [insert_run(database, "t", days_ago=20, status="pending") for _ in range(3)]
    for _ in range(4):
        insert_run(database, "t", days_ago=10)
    async with opened(database_url, count=1) as (state,):
        sweep = sweeper(state, limit=3)
        assert [await sweep.sweep() for _ in range(3)] == [0, 3, 1]
        # At the end it begins again: what was kept may have ended since.
        database.execute(
            "UPDATE runs SET status = 'success', ended_at = now() - interval '8 days'"
            " WHERE run_id = %s",
            (kept[0],),
        )
        assert await sweep.sweep() == 1
    assert run_ids(database) == set(kept[1:])


async def test_several_sweepers_delete_each_run_once(database, database_url):
    for number in range(40):
        insert_run(database, f"t{number % 3}", days_ago=10)
    async with opened(database_url) as states:
        counted: list[int] = []
        first, second = (sweeper(state, counted=counted) for state in states)
        assert await first.sweep() + await second.sweep() == 40 == sum(counted)


async def test_a_conversation_goes_on_after_its_runs_are_gone(database, database_url):
    async with opened(database_url, count=1) as (state,):
        for graph_id in ("agent", "stepwise"):
            graph = state.graphs.get(graph_id)
            config = {"configurable": {"thread_id": graph_id}}
            insert_run(database, graph_id, days_ago=10)
            for _ in range(2):
                await graph.ainvoke(HELLO, config)
        assert await sweeper(state).sweep() == 2
        for graph_id in ("agent", "stepwise"):
            graph = state.graphs.get(graph_id)
            config = {"configurable": {"thread_id": graph_id}}
            await graph.ainvoke(HELLO, config)
            assert len((await graph.aget_state(config)).values["messages"]) == 6


async def test_settings_start_the_sweep(database, database_url):
    old = insert_run(database, "t", days_ago=10)
    retention = {"run_minutes": 60, "sweep_minutes": 0.0005}
    async with opened(database_url, count=1, retention=retention):
        await eventually(lambda: old not in run_ids(database))


def test_less_than_a_minute_is_refused():
    with pytest.raises(ValidationError, match="a minute or longer"):
        RetentionSettings(run_minutes=0.5)


async def test_what_clients_get_for_runs_that_are_gone(database, database_url):
    settings = settings_for(database_url, GRAPHS)
    async with app_client(settings) as http:
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        runs = f"/threads/{thread}/runs"
        body = {"assistant_id": "agent", "input": HELLO}

        async def turn(**headers):
            ran = await http.post(f"{runs}/wait", json=body, headers=headers)
            return ran.headers["content-location"].split("/")[-1], ran.json()

        key = {"idempotency-key": "one"}
        first, answer = await turn(**key)
        second, _ = await turn()
        newest, _ = await turn()
        states = len((await http.get(f"/threads/{thread}/history?limit=100")).json())
        pruned = await http.post(
            "/threads/prune", json={"thread_ids": [thread], "strategy": "keep_latest"}
        )
        assert pruned.json() == {"pruned_count": 1}
        listed = [run["run_id"] for run in (await http.get(runs)).json()]
        # What is sent again with its key gets its answer.
        assert listed == [newest, first]
        assert (await turn(**key))[0] == first
        for path in (second, f"{second}/join", f"{second}/stream"):
            gone = await http.get(f"{runs}/{path}")
            assert (gone.status_code, gone.json()["code"]) == (404, "run_not_found")
        assert (await http.delete(f"{runs}/{second}")).status_code == 404
        assert len((await http.get(f"/threads/{thread}/history?limit=100")).json()) == 1 < states

        database.execute("DELETE FROM idempotency_keys")
        async with open_pool(database_url) as pool:
            sweep = RunSweeper(
                pool, keep_seconds=0.001, interval_seconds=1, limit=9, count=lambda count: None
            )
            assert await sweep.sweep() == 2
        assert (await http.get(runs)).json() == []
        assert (await http.get(f"/threads/{thread}")).json()["status"] == "idle"
        _, said = await turn()
        assert len(said["messages"]) == 4 * len(answer["messages"])
        assert "headrace_runs_expired_total 1.0" in (await http.get("/metrics")).text
