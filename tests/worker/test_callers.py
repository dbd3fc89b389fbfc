"""Several callers share the places of a process: starts in place, claims, and the queue."""

import asyncio
from dataclasses import replace
from functools import partial
from time import monotonic
from uuid import UUID

import psycopg
import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.errors import TooManyQueuedRuns
from headrace.ids import uuid7
from headrace.queue.rows import QueuedRun
from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.pace import within
from tests.support.runs import run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker

ENDLESS = 3600.0


def run_of(caller, seconds=ENDLESS, *, in_place=True):
    asked = run_request(str(uuid7()), principal=replace(ANONYMOUS, caller=caller))
    kwargs = {**KWARGS, "input": {"seconds": seconds}}
    return replace(asked, kwargs=kwargs, in_place=in_place)


async def start_many(worker, count, *given, **named):
    return await asyncio.gather(*(worker.submit(run_of(*given, **named)) for _ in range(count)))


def count(database, status, caller):
    return database.execute(
        "SELECT count(*) FROM runs WHERE status = %s AND caller = %s", (status, caller)
    ).fetchone()[0]


def status(database, asked):
    return database.execute(
        "SELECT status FROM runs WHERE run_id = %s", (asked.run_id,)
    ).fetchone()[0]


# It has a bound on time.
@pytest.mark.alone
async def test_endless_runs_of_one_caller_leave_places_for_another(database_url, database):
    async with open_worker(database_url, share=0.75, max_concurrent_runs=20) as worker:
        started = await start_many(worker, 200, "a")
        assert sum(not isinstance(one, QueuedRun) for one in started) == 15
        assert not isinstance(await worker.submit(run_of("b")), QueuedRun)
        waiting = run_of("b", 0, in_place=False)
        begun = monotonic()
        assert isinstance(await worker.submit(waiting), QueuedRun)
        await eventually(lambda: status(database, waiting) == "success")
        assert monotonic() - begun < within(2)
        await eventually(lambda: worker.running == 16)
        figures = worker.caller_figures()
        assert (figures.holding, figures.at_limit, figures.most_places) == (2, 1, 15)


def waits_with(worker, database, left):
    return worker.running == 6 and count(database, "pending", "a") == left


# It has a bound on time.
@pytest.mark.alone
async def test_a_waiting_run_begins_when_one_of_its_caller_ends(database_url, database):
    async with open_worker(database_url, share=0.75, max_concurrent_runs=8) as worker:
        await start_many(worker, 12, "a")
        assert (worker.running, count(database, "pending", "a")) == (6, 6)
        begun = monotonic()
        for left in (5, 4, 3, 2, 1, 0):
            next(iter(worker._roster.executions.values())).cancel("enough", "client")
            await eventually(partial(waits_with, worker, database, left))
        # Each second would take six, from one look to the next.
        assert monotonic() - begun < within(4)


async def test_a_run_waits_for_a_few_of_another_caller_and_not_for_its_queue(
    database_url, database
):
    async with open_worker(database_url, enabled=False) as api:
        await start_many(api, 500, "a", 0.0)
        async with open_worker(database_url, share=0.75, max_concurrent_runs=4):
            await eventually(lambda: count(database, "success", "a") >= 10)
            asked = run_of("b", 0)
            await api.submit(asked)
            before = count(database, "success", "a")
            await eventually(lambda: status(database, asked) != "pending")
            assert count(database, "success", "a") - before < 150


async def test_runs_of_a_release_without_callers_are_claimed(database_url, database):
    """Its statements name neither column; what a thread says may be of an earlier run."""
    run_id = uuid7()
    async with open_worker(database_url, enabled=False) as api:
        await start_many(api, 30, "a")
    database.execute(
        "INSERT INTO threads (thread_id, tenant, owner, status, ready_at, ready_run_id,"
        " ready_graph_id) VALUES ('old', 'default', 'anonymous', 'busy', now(), %s, 'agent')",
        (run_id,),
    )
    database.execute(
        "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, kwargs)"
        " VALUES (%s, 'old', %s, 'agent', %s)",
        (run_id, UUID(int=1), psycopg.types.json.Jsonb({**KWARGS, "input": {"seconds": 0}})),
    )
    database.execute(
        "UPDATE runs SET caller = '' WHERE run_id IN"
        " (SELECT run_id FROM runs WHERE caller = 'a' LIMIT 1)"
    )
    async with open_worker(database_url, share=0.75, max_concurrent_runs=8) as worker:
        await eventually(lambda: count(database, "success", "") == 1)
        await eventually(lambda: worker.running == 6)


async def test_one_caller_alone_has_all_places(database_url, database):
    async with open_worker(database_url, max_concurrent_runs=8) as worker:
        await start_many(worker, 12, "a")
        assert worker.running == 8


@pytest.mark.parametrize("caller", ["", "a"])
async def test_a_caller_queues_no_more_than_the_limit(database_url, database, caller):
    async with open_worker(
        database_url, share=0.75, max_queued_runs=3, max_concurrent_runs=2
    ) as worker:
        # A count of the queue while runs are queued may miss some: let the first one be over. The
        # next one comes 5 s later.
        await worker.submit(run_of("z", 0, in_place=False))
        await eventually(lambda: worker._queueing._admission._counted_at > 0)
        await eventually(lambda: count(database, "success", "z") == 1 and not worker.running)
        await start_many(worker, 4, caller)
        with pytest.raises(TooManyQueuedRuns, match="max_queued_runs"):
            await worker.submit(run_of(caller))
        assert count(database, "pending", caller) == 3
        # Neither another caller's, nor what begins at once.
        assert not isinstance(await worker.submit(run_of("b")), QueuedRun)
        await worker.submit(run_of("b"))
        for run_id in database.execute(
            "SELECT run_id FROM runs WHERE status = 'pending' AND caller = %s", (caller,)
        ).fetchall():
            await worker.cancel(ANONYMOUS, list(run_id), "interrupt", "enough", "client")
        await asyncio.sleep(1.1)
        assert isinstance(await worker.submit(run_of(caller)), QueuedRun)


KEYS = {name: {"x-api-key": f"the-key-of-{name}-is-long-enough"} for name in ("one", "two")}


async def test_two_keys_share_the_places_and_each_has_a_queue_of_its_own(database_url):
    settings = settings_for(
        database_url,
        GRAPHS / "langgraph.json",
        api_keys=",".join(key["x-api-key"] for key in KEYS.values()),
        worker={"max_concurrent_runs": 4},
        callers={"max_queued_runs": 5},
        edge={"metrics": "on"},
    )
    endless = {"assistant_id": "slow", "input": {"seconds": ENDLESS}}
    async with app_client(settings) as client:
        for _ in range(8):
            made = await client.post("/runs", json=endless, headers=KEYS["one"])
            assert made.status_code == 200
        refused = await client.post("/runs/batch", json=[endless, endless], headers=KEYS["one"])
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_queued_runs"
        assert int(refused.headers["retry-after"]) > 0
        for path in ("/runs/wait", "/runs/stream"):
            answer = await client.post(path, json=endless, headers=KEYS["one"])
            assert answer.status_code == 429
        brief = {"assistant_id": "slow", "input": {"seconds": 0}}
        answer = await client.post("/runs/wait", json=brief, headers=KEYS["two"])
        assert (answer.status_code, answer.json()["done"]) == (200, [0, 1, 2])
        told = (await client.get("/metrics")).text
        assert 'headrace_refused_runs_total{reason="too_many_queued_runs"} 3.0' in told
        await eventually_told(client, "headrace_caller_places_max 3.0")
        await eventually_told(client, "headrace_callers_at_limit 1.0")
        assert (await client.get("/health")).json()["processes"][0]["callers"]["at_limit"] == 1


async def eventually_told(client, line):
    async def told():
        return line in (await client.get("/metrics")).text

    await eventually(told)
