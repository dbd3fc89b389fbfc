"""Starts wait in memory for a place of their process, and share places with the queue."""

import asyncio
from dataclasses import replace
from time import monotonic

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.ids import uuid7
from headrace.notices.notifier import PollingNotifier
from headrace.queue.rows import QueuedRun
from headrace.shares import Places
from headrace.worker.roster import Roster
from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.runs import run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker

ENDLESS = 3600.0


@pytest.fixture(autouse=True)
def any_pace(monkeypatch):
    """Runs count as short on a slow machine, too."""
    monkeypatch.setattr("headrace.worker.waiting_line._LONGEST_INTERVAL_SECONDS", 60.0)


def run_of(caller="", seconds=0.0):
    asked = run_request(str(uuid7()), principal=replace(ANONYMOUS, caller=caller))
    return replace(asked, kwargs={**KWARGS, "input": {"seconds": seconds}})


async def serve(worker):
    """As a client that waits for its run, if it starts in place."""
    run = await worker.submit(run_of())
    if not isinstance(run, QueuedRun):
        await run.outcome(60)


async def find_pace(worker):
    """Runs that end one after another, so that the worker knows how soon places become free."""
    roster = worker._roster
    while not roster.place_is_near(""):
        # A round of claims may hold the only place.
        await eventually(lambda: roster.free == roster.places.total)
        await serve(worker)
    await eventually(lambda: roster.free == roster.places.total)


async def waits(worker, request):
    """The task of a run that waits for a place."""
    before = worker._roster.waiting
    task = asyncio.ensure_future(worker.submit(request))
    await eventually(lambda: worker._roster.waiting == before + 1)
    return task


def status(database, request):
    return database.execute(
        "SELECT status FROM runs WHERE run_id = %s", (request.run_id,)
    ).fetchone()


async def ended(database, request):
    await eventually(lambda: status(database, request) == ("success",), seconds=60)


def claimed(database):
    return database.execute("SELECT count(*) FROM runs WHERE created_at < started_at").fetchone()[0]


async def test_more_clients_than_places_do_not_send_their_runs_through_the_queue(
    database_url, database
):
    """Each run through the queue costs an enqueue, a claim and reads of its row, with commits."""
    queued = 0

    async def client():
        nonlocal queued
        for _ in range(25):
            request = run_of()
            run = await worker.submit(request)
            if isinstance(run, QueuedRun):
                queued += 1
                await ended(database, request)
            else:
                await run.outcome(60)

    async with open_worker(database_url, max_concurrent_runs=4, place_wait_seconds=60) as worker:
        await asyncio.gather(*(client() for _ in range(8)))
    # Of 200; the first ones, before the worker knows how soon places become free.
    assert queued <= 40
    assert claimed(database) == queued


async def test_the_queue_gets_every_second_place(database_url, database):
    """A queued run is overtaken by no more starts than there are queued runs before it."""
    async with open_worker(database_url, max_concurrent_runs=2, place_wait_seconds=60) as worker:
        await find_pace(worker)
        async with open_worker(database_url, enabled=False) as api:
            backlog = [run_of() for _ in range(20)]
            for request in backlog:
                await api.submit(request)
        over = False

        async def client():
            while not over:
                await serve(worker)

        clients = [asyncio.ensure_future(client()) for _ in range(6)]
        for request in backlog:
            await ended(database, request)
        over = True
        await asyncio.gather(*clients)
    (overtaking,) = database.execute(
        "WITH backlog AS (SELECT min(started_at) AS first, max(started_at) AS last FROM runs"
        " WHERE created_at < started_at) SELECT count(*) FROM runs, backlog"
        " WHERE created_at = started_at AND started_at BETWEEN first AND last"
    ).fetchone()
    # One for each, from the first look into the queue on; and the starts that were under way then.
    assert overtaking <= len(backlog) + 8


async def test_what_ends_too_late_is_queued(database_url, database):
    async with open_worker(database_url, max_concurrent_runs=1, place_wait_seconds=0.3) as worker:
        await find_pace(worker)
        await worker.submit(run_of(seconds=ENDLESS))
        began, request = monotonic(), run_of()
        assert isinstance(await worker.submit(request), QueuedRun)
        assert monotonic() - began >= 0.25
        assert status(database, request) == ("pending",)
        assert not worker._roster.starting


@pytest.mark.parametrize(
    "change",
    [
        {"multitask_strategy": "interrupt"},
        {"multitask_strategy": "rollback"},
        {"keep_events": True},
        {"in_place": False},
    ],
)
async def test_runs_that_replace_others_and_background_runs_are_queued_at_once(
    database_url, change
):
    async with open_worker(database_url, max_concurrent_runs=1, place_wait_seconds=60) as worker:
        await find_pace(worker)
        await worker.submit(run_of(seconds=ENDLESS))
        async with asyncio.timeout(30):
            assert isinstance(await worker.submit(replace(run_of(), **change)), QueuedRun)


async def test_long_runs_let_nobody_wait(database_url):
    async with open_worker(database_url, max_concurrent_runs=1, place_wait_seconds=60) as worker:
        await worker.submit(run_of(seconds=ENDLESS))
        async with asyncio.timeout(30):
            assert isinstance(await worker.submit(run_of()), QueuedRun)


async def test_a_run_whose_client_leaves_is_queued(database_url, database):
    async with open_worker(database_url, max_concurrent_runs=1, place_wait_seconds=60) as worker:
        await find_pace(worker)
        running = await worker.submit(run_of(seconds=ENDLESS))
        request, other = run_of(), run_of()
        leaving = await waits(worker, request)
        staying = await waits(worker, other)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await eventually(lambda: status(database, request) == ("pending",))
        running.cancel("enough", "client")
        assert not isinstance(await staying, QueuedRun)
        for one in (request, other):
            await ended(database, one)
        await eventually(lambda: not worker._roster.places.taken)


async def test_a_drain_queues_the_runs_that_wait(database_url, database):
    async with open_worker(database_url, max_concurrent_runs=1, place_wait_seconds=60) as worker:
        await find_pace(worker)
        await worker.submit(run_of(seconds=ENDLESS))
        request = run_of()
        waiting = await waits(worker, request)
        await worker.finish(0)
        assert waiting.done()
        assert isinstance(await waiting, QueuedRun)
        assert status(database, request) == ("pending",)
    async with open_worker(database_url):
        await ended(database, request)


async def test_a_waiting_caller_with_fewer_places_comes_first():
    roster = Roster(Places(2), PollingNotifier(), wait_seconds=60)
    held = [run_of("a"), run_of("a")]
    for request in held:
        roster.add_start(request)
    of_a = asyncio.ensure_future(roster.wait_to_start(run_of("a")))
    of_b = asyncio.ensure_future(roster.wait_to_start(run_of("b")))
    await asyncio.sleep(0)
    roster.remove_start(held[0])
    assert await of_b
    assert not of_a.done()
    roster.remove_start(held[1])
    assert await of_a


async def test_no_place_that_is_kept_for_the_queue_stays_empty():
    roster = Roster(Places(2), PollingNotifier(), wait_seconds=60)
    requests = [run_of() for _ in range(4)]
    for request in requests[:2]:
        roster.add_start(request)
    waiting = [asyncio.ensure_future(roster.wait_to_start(one)) for one in requests[2:]]
    await asyncio.sleep(0)
    roster.left_runs = True
    for number, (free, claimable) in enumerate([(0, 0), (0, 1)]):
        roster.starting.discard(requests[number].run_id)
        roster.places.release("")
        roster._share_out("")
        roster.start_round()
        assert (roster.free, roster.claimable) == (free, claimable)
    assert roster.waiting == 1
    # The round has found nothing.
    roster.left_runs = False
    roster.end_round()
    assert await asyncio.gather(*waiting) == [True, True]


async def test_other_requests_do_not_wait_behind_a_run_without_a_place(database_url):
    settings = settings_for(
        database_url,
        GRAPHS / "langgraph.json",
        worker={"max_concurrent_runs": 1, "place_wait_seconds": 60.0},
        requests={"at_once": 1},
    )
    async with app_client(settings) as client:

        def asked(seconds):
            return {"assistant_id": "slow", "input": {"seconds": seconds}}

        for _ in range(16):
            assert (await client.post("/runs/wait", json=asked(0))).status_code == 200
        endless = (await client.post("/runs", json=asked(ENDLESS))).json()
        waiting = asyncio.ensure_future(client.post("/runs/wait", json=asked(0)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            assert (await client.get("/threads/" + endless["thread_id"])).status_code == 200
        path = f"/threads/{endless['thread_id']}/runs/{endless['run_id']}/cancel"
        await client.post(path)
        assert (await waiting).json()["done"] == [0, 1, 2]
        told = (await client.get("/metrics")).text
        assert 'headrace_place_wait_seconds_count{outcome="started"} 1.0' in told
