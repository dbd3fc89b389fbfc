"""Requests of one caller in a second."""

import time

import pytest

from headrace.admission_errors import RateLimited
from headrace.edge import rates
from headrace.edge.gates import RequestGates
from headrace.edge.rates import Rates
from headrace.errors import CallerShareUsed
from headrace.settings import Settings
from tests.support.apps import app_client, settings_for, write_manifest

A, B = "first-key-of-this-test-5f0e3a1c", "second-key-of-this-test-9b77c1d2"


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(rates, "monotonic", found)
    return found


def admitted(bounded, caller, tries):
    count = 0
    for _ in range(tries):
        try:
            bounded.admit(caller)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate(clock):
    bounded = Rates(10.0, 2.0)
    assert admitted(bounded, "a", 100) == 20
    assert admitted(bounded, "b", 5) == 5
    clock.now += 1
    assert admitted(bounded, "a", 100) == 10
    clock.now += 100
    assert admitted(bounded, "a", 100) == 20


def test_the_refusal_tells_the_limit_its_setting_and_when_to_try_again(clock):
    bounded = Rates(0.5, 2.0)
    bounded.admit("a")
    with pytest.raises(RateLimited) as refused:
        bounded.admit("a")
    assert "0.5 requests a second" in refused.value.message
    assert "callers.requests_per_second" in refused.value.message
    assert refused.value.retry_after_seconds == 2
    clock.now += refused.value.retry_after_seconds
    bounded.admit("a")


def test_a_refused_request_costs_nothing(clock):
    bounded = Rates(10.0, 1.0)
    admitted(bounded, "a", 1000)
    clock.now += 0.1
    assert admitted(bounded, "a", 1000) == 1


def test_no_limit():
    assert admitted(Rates(0, 2.0), "a", 10_000) == 10_000


def test_silent_callers_are_forgotten(clock):
    bounded = Rates(10.0, 1.0)
    for number in range(25_000):
        bounded.admit(str(number))
        clock.now += 0.001
    assert len(bounded._paid_until) <= 10_001


def test_one_caller_may_hold_so_many_streams():
    settings = Settings.model_validate({"callers": {"max_open_answers": 2}})
    gates = RequestGates(settings)
    held = [gates.lasting("a") for _ in range(2)]
    with pytest.raises(CallerShareUsed, match=r"2 .* callers\.max_open_answers"):
        gates.lasting("a")
    gates.lasting("b")
    held[0].release()
    gates.lasting("a")
    settings = Settings.model_validate({"callers": {"max_thread_streams": 1}})
    gates = RequestGates(settings)
    gates.lasting("a", of_thread=True)
    with pytest.raises(CallerShareUsed, match=r"callers\.max_thread_streams"):
        gates.lasting("a", of_thread=True)


async def test_a_caller_above_its_rate_gets_429_and_others_are_answered(database_url, tmp_path):
    limited = settings_for(
        database_url,
        write_manifest(tmp_path),
        api_keys=f"{A},{B}",
        callers={"requests_per_second": 1, "burst_seconds": 5},
    )
    async with app_client(limited) as client:
        mine, others = {"x-api-key": A}, {"x-api-key": B}
        began = time.monotonic()
        answers = [await client.get("/threads/x", headers=mine) for _ in range(30)]
        refused = [one for one in answers if one.status_code == 429]
        assert 5 <= 30 - len(refused) <= 6 + time.monotonic() - began
        assert refused[0].json()["code"] == "rate_limited"
        assert int(refused[0].headers["retry-after"]) >= 1
        assert (await client.get("/threads/x", headers=others)).status_code != 429
        # Of a stranger nothing is counted, and probes go on.
        assert (await client.get("/threads/x")).status_code == 401
        assert (await client.get("/ok")).status_code == 200
        metrics = (await client.get("/metrics", headers=others)).text
        line = 'headrace_gate_refusals_total{gate="rate",reason="share"}'
        found = next(one for one in metrics.splitlines() if one.startswith(line))
        assert float(found.split()[-1]) == len(refused)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads/search", {"limit": 21}),
        ("/assistants/search", {"limit": 21}),
        ("/store/items/search", {"namespace_prefix": [], "limit": 21}),
        ("/store/namespaces", {"limit": 21}),
        ("/runs/crons/search", {"limit": 21}),
        ("/threads/THREAD/history", {"limit": 21}),
        ("/threads/THREAD/runs?limit=21", None),
        ("/threads/THREAD/history?limit=21", None),
    ],
)
async def test_a_page_has_so_many_rows(small_pages, path, body):
    client, thread = small_pages
    method = "GET" if body is None else "POST"
    fewer = path.replace("21", "20").replace("THREAD", thread)
    path = path.replace("THREAD", thread)
    refused = await client.request(method, path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "requests.max_page_rows" in refused.json()["detail"]
    body = None if body is None else {**body, "limit": 20}
    answer = await client.request(method, fewer, json=body)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def small_pages(database_url, tmp_path):
    limited = settings_for(database_url, write_manifest(tmp_path), requests={"max_page_rows": 20})
    async with app_client(limited) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        yield client, thread


async def test_a_body_has_so_many_levels(database_url, tmp_path):
    limited = settings_for(database_url, write_manifest(tmp_path), requests={"max_body_depth": 10})
    async with app_client(limited) as client:
        deep = b"[" * 9 + b"]" * 9
        fits = await client.post(
            "/threads",
            content=b'{"metadata": {"a": ' + deep[1:-1] + b"}}",
            headers={"Content-Type": "application/json"},
        )
        assert fits.status_code == 200, fits.text
        refused = await client.post(
            "/threads",
            content=b'{"metadata": {"a": ' + deep + b"}}",
            headers={"Content-Type": "application/json"},
        )
        assert refused.status_code == 422
        assert "10 levels deep (setting requests.max_body_depth)" in refused.json()["detail"]
