"""Requests wait to begin while the event loop is behind, and are refused if that takes too long."""

import asyncio
import time
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.auth.principal import ANONYMOUS
from headrace.db.engine import Sessions, build_engine
from headrace.edge.departures import ClientLeft, note_connection, unless_lost
from headrace.edge.gates import RequestGates
from headrace.edge.intake import Intake, Pace
from headrace.edge.requests import JSONRequest
from headrace.edge.state import state_of
from headrace.edge.turns import Refusals, Turns
from headrace.event_settings import IdempotencySettings
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.request_settings import RequestSettings
from headrace.server.app import create_app
from headrace.shares import Gate, Places, QueueFull
from tests.support.apps import GRAPHS, app_client, settings_for, started, write_manifest
from tests.support.database import open_pool
from tests.support.waiting import eventually

BOUND = 0.02
#: What else the scope of a request has.
REST = {"query_string": b"", "headers": [], "client": ("127.0.0.1", 1)}
TICK = 0.01


def paced(
    pace: Pace, late: float, seconds: float, *, wanted: bool = True, now: float = 0.0
) -> float:
    """Look at so late a loop for so long; the time after it."""
    for _ in range(round(seconds / TICK)):
        now += TICK
        pace.look(late, now, wanted=wanted)
    return now


def test_a_late_loop_lets_fewer_begin_and_a_calm_one_more():
    pace = Pace(BOUND, 200)
    before = pace.limit
    now = paced(pace, 0.1, 0.5)
    assert pace.limit < before / 4
    now = paced(pace, 0.0, 3.0, now=now)
    assert pace.limit == 200


def test_more_than_the_first_begin_only_while_the_loop_is_well_in_time():
    pace = Pace(BOUND, 200)
    now = paced(pace, 0.0, 3.0)
    assert pace.limit == 200
    now = paced(pace, BOUND / 2, 10.0, now=now)
    # The first may stay: the loop is in time for them.
    assert 14 < pace.limit < 17
    paced(pace, BOUND / 2, 10.0, now=now)
    assert 14 < pace.limit < 17


def test_nothing_changes_while_nobody_waits_and_the_loop_is_in_time():
    pace = Pace(BOUND, 200)
    before = pace.limit
    paced(pace, BOUND / 2, 10.0, wanted=False)
    assert pace.limit == before


def test_a_loop_that_is_late_for_other_reasons_does_not_stop_requests():
    pace = Pace(BOUND, 200)
    now = paced(pace, 0.2, 1.0)
    assert pace.limit == 1
    now = paced(pace, 0.2, 4.0, now=now)
    assert pace.limit == 200
    # Twice as late as with the fewest requests: now they are the reason.
    now = paced(pace, 0.5, 0.5, now=now)
    assert pace.limit < 50
    # Once the loop is calm, its usual bound holds again.
    now = paced(pace, 0.0, 10.0, now=now)
    now = paced(pace, 0.03, 0.8, now=now)
    assert pace.limit == 1


def test_a_pause_is_forgotten():
    pace = Pace(BOUND, 200)
    paced(pace, 5.0, 0.02)
    pace.begin()
    limit = pace.limit
    pace.look(0.0, 10.0, wanted=True)
    assert pace.limit > limit


@pytest.mark.parametrize("most", [1, 2])
def test_there_are_never_more_than_the_setting_says(most):
    pace = Pace(BOUND, most)
    assert pace.limit == most
    paced(pace, 0.0, 1.0)
    assert pace.limit == most
    paced(pace, 1.0, 0.5)
    assert pace.limit == 1


def with_connection(app: ASGIApp, state: dict[str, Any], lost: asyncio.Future[None]) -> ASGIApp:
    """The app behind a server that says when the client has left; keeps the state of requests."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state.update(scope["state"])
            note_connection(scope["state"], lost)
        await app(scope, receive, send)

    return told


def ungated() -> Gate:
    """The gate among callers, while there is one."""
    return Gate(Places(64), timeout_seconds=5)


def intake(**settings: float) -> Intake:
    return Intake(RequestSettings.model_validate(settings))


async def test_the_first_to_come_is_the_first_to_begin():
    gate, begun = intake(at_once=2), []

    async def work(number: int) -> None:
        await gate.enter("")
        begun.append(number)
        await asyncio.sleep(0.01)
        gate.leave("")

    await asyncio.gather(*(work(number) for number in range(20)))
    assert begun == list(range(20))
    assert (gate.held, gate.waiting) == (0, 0)


async def test_nobody_waits_behind_the_queue_of_another():
    gate, begun = intake(at_once=1), []

    async def work(caller: str) -> None:
        await gate.enter(caller)
        begun.append(caller)
        await asyncio.sleep(0)
        gate.leave(caller)

    await asyncio.gather(*(work(caller) for caller in "aaaaaaaaab"))
    assert "b" in begun[:3]


async def test_who_waits_too_long_or_behind_too_many_is_refused():
    gate = intake(at_once=1, wait_seconds=0.05, max_waiting=1)
    await gate.enter("")
    late = asyncio.ensure_future(gate.enter(""))
    await eventually(lambda: gate.waiting == 1)
    with pytest.raises(QueueFull):
        await gate.enter("")
    with pytest.raises(TimeoutError):
        await late
    assert (gate.held, gate.waiting) == (1, 0)
    gate.leave("")
    await gate.enter("")
    gate.leave("")


async def test_who_leaves_while_it_waits_takes_no_place():
    gate = intake(at_once=1)
    await gate.enter("")
    waiting = [asyncio.ensure_future(gate.enter("")) for _ in range(4)]
    await eventually(lambda: gate.waiting == 4)
    waiting[0].cancel()
    await asyncio.sleep(0)
    # Its turn comes in the moment in which it leaves.
    gate.leave("")
    waiting[1].cancel()
    await asyncio.wait(waiting[:2])
    await waiting[2]
    assert (gate.held, gate.waiting) == (1, 1)
    gate.leave("")
    await waiting[3]
    gate.leave("")
    assert (gate.held, gate.waiting) == (0, 0)


async def test_a_blocked_loop_slows_the_intake_and_an_idle_one_is_not_measured():
    gate = intake(loop_delay_seconds=0.01)
    await gate.enter("")
    before = gate._pace.limit
    for _ in range(10):
        time.sleep(0.05)  # noqa: ASYNC251 - blocking is what is tested
        await asyncio.sleep(0.011)
    assert gate._pace.limit < before
    assert gate._gate.places.total == int(gate._pace.limit)
    gate.leave("")
    await eventually(lambda: gate._due is None)


async def test_too_many_requests_are_refused_and_health_is_not(database_url, tmp_path):
    requests = {"at_once": 1, "wait_seconds": 0.2, "max_waiting": 2}
    settings = settings_for(database_url, write_manifest(tmp_path), requests=requests)
    async with app_client(settings) as http:
        asked = [http.post("/threads", json={}) for _ in range(30)]
        answers = await asyncio.gather(*asked)
        assert {one.status_code for one in answers} == {200, 503}
        refused = [one for one in answers if one.status_code == 503]
        assert {one.json()["code"] for one in refused} == {"overloaded"}
        assert {one.headers["retry-after"] for one in refused} <= {"1", "2", "3"}
        assert (await http.get("/livez")).status_code == 200
        assert (await http.post("/threads", json={})).status_code == 200


async def test_requests_that_wait_for_another_with_their_key_hold_no_turn(database_url, tmp_path):
    settings = settings_for(database_url, write_manifest(tmp_path), requests={"at_once": 1})
    key = RequestKey.of("/threads", "k", b"{}")
    async with app_client(settings) as http, open_pool(database_url) as pool:
        # Another process has the key and has not made the thread yet.
        engine = build_engine(pool)
        other = IdempotencyService(Sessions(engine, timeout_seconds=5), IdempotencySettings())
        reserved = await other.reserve(ANONYMOUS, key)
        headers = {"Idempotency-Key": "k"}
        retries = [
            asyncio.ensure_future(http.post("/threads", json={}, headers=headers)) for _ in range(3)
        ]
        done, _ = await asyncio.wait(retries, timeout=0.5)
        assert not done
        made = await http.post("/threads", json={"thread_id": str(reserved.resource_id)})
        assert made.status_code == 200
        await other.confirm(ANONYMOUS, key, str(reserved.resource_id))
        answers = await asyncio.gather(*retries)
        await engine.dispose()
    assert {(one.status_code, one.json()["thread_id"]) for one in answers} == {
        (200, str(reserved.resource_id))
    }


async def test_clients_that_follow_a_run_of_another_request_hold_no_turn(database_url, tmp_path):
    """The head of a join is sent after 0.1 s: sixty one after another would take six seconds."""
    manifest = write_manifest(tmp_path, graphs={"slow": f"{GRAPHS / 'graphs.py'}:make_slow"})
    settings = settings_for(database_url, manifest, requests={"at_once": 1, "wait_seconds": 2.0})
    async with app_client(settings) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "slow", "input": {"seconds": 2.0}}
        run = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()
        join = f"/threads/{thread_id}/runs/{run['run_id']}/join"
        answers = await asyncio.gather(*(http.get(join) for _ in range(60)))
        assert [one.status_code for one in answers] == [200] * 60


@pytest.mark.parametrize("has_left_before", [True, False])
async def test_a_client_that_leaves_gives_up_its_wait(has_left_before):
    gate = intake(at_once=1)
    turns = Turns(ungated(), gate, Refusals(lambda gate, reason: None))

    def asked(lost: asyncio.Future[None]) -> JSONRequest:
        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        scope: Scope = {"type": "http", "method": "POST", "headers": [], "state": {}}
        note_connection(scope["state"], lost)
        made = JSONRequest(scope, receive)
        made.turns = turns
        return made

    stays, lost = (asyncio.get_running_loop().create_future() for _ in range(2))
    first, second, third = asked(stays), asked(lost), asked(stays)
    await first.body()
    if has_left_before:
        lost.set_result(None)
    leaving, staying = asyncio.ensure_future(second.body()), asyncio.ensure_future(third.body())
    if not has_left_before:
        await eventually(lambda: gate.waiting == 2)
        lost.set_result(None)
    with pytest.raises(ClientLeft):
        await leaving
    assert (gate.held, gate.waiting) == (1, 1)
    second.release()
    first.release()
    assert await staying == b"{}"
    third.release()
    assert (gate.held, gate.waiting) == (0, 0)


async def test_a_client_that_leaves_without_a_wait_gets_its_work_done():
    """Some clients only send, and do not wait for the answer."""
    gate, lost = intake(), asyncio.get_running_loop().create_future()
    lost.set_result(None)
    scope: Scope = {"type": "http", "method": "GET", "headers": [], "state": {}}
    note_connection(scope["state"], lost)
    made = JSONRequest(scope)
    made.turns = Turns(ungated(), gate, Refusals(lambda gate, reason: None))
    await made.take_turn()
    await asyncio.sleep(0)
    assert gate.held == 1
    made.release()


async def test_a_cancelled_request_stays_cancelled_when_its_client_leaves_too():
    gate, lost = intake(at_once=1), asyncio.get_running_loop().create_future()
    await gate.enter("")
    waiting = asyncio.ensure_future(unless_lost(gate.enter(""), lost))
    await eventually(lambda: gate.waiting == 1)
    lost.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (gate.held, gate.waiting) == (1, 0)


@pytest.mark.parametrize(("method", "path"), [("POST", "/threads"), ("GET", "/threads/none")])
async def test_the_log_tells_of_a_client_that_left_before_its_turn(
    method, path, database_url, tmp_path
):
    settings = settings_for(database_url, write_manifest(tmp_path), requests={"at_once": 1})
    lost = asyncio.get_running_loop().create_future()
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    app = create_app(settings)
    state: dict[str, Any] = {}
    async with started(with_connection(app, state, lost)) as served:
        await served({"type": "http", "method": "GET", "path": "/ok", **REST}, receive, send)
        sent.clear()
        gate = state_of(state).get(RequestGates).turns.intake
        await gate.enter("")
        scope = {"type": "http", "method": method, "path": path, **REST}
        asking = asyncio.ensure_future(served(scope, receive, send))
        await eventually(lambda: gate.waiting == 1)
        lost.set_result(None)
        async with asyncio.timeout(5):
            await asking
        gate.leave("")
    assert sent[0]["status"] == 499
    assert b"client_left" in sent[1]["body"]
