"""Places of requests: parts of the pool, answers that last, and that every route says its kind."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.routing import BaseRoute

from headrace.edge.gates import RequestGates, kind_of
from headrace.errors import CallerShareUsed
from headrace.observability.figures import GateFigures
from headrace.server.app import build_router, create_app
from headrace.settings import Settings
from headrace.shares import Share
from headrace.unavailable_errors import PoolShareFull, TooManyAnswers, TooManyStreams
from tests.support.apps import GRAPHS, settings_for, started
from tests.support.pace import within
from tests.support.waiting import eventually

A, B = "first-key-of-this-test-5f0e3a1c", "second-key-of-this-test-9b77c1d2"

LISTS = {
    "POST /assistants/count",
    "POST /assistants/search",
    "POST /assistants/{assistant_id}/versions",
    "POST /runs/crons/count",
    "POST /runs/crons/search",
    "POST /store/items/search",
    "POST /store/namespaces",
    "POST /threads/count",
    "POST /threads/search",
    "GET /threads/{thread_id}/history",
    "POST /threads/{thread_id}/history",
    "GET /threads/{thread_id}/runs",
    "GET /threads/{thread_id}/runs/{run_id}/timeline",
    "GET /threads/{thread_id}/storage",
}
CHANGES = {
    "DELETE /assistants/{assistant_id}",
    "POST /runs/cancel",
    "POST /threads",
    "POST /threads/prune",
    "DELETE /threads/{thread_id}",
    "POST /threads/{thread_id}/copy",
    "POST /threads/{thread_id}/state",
}
LASTING = {
    "POST /chat",
    "POST /chat/stream",
    "POST /runs/stream",
    "POST /runs/wait",
    "GET /runs/{run_id}/join",
    "GET /runs/{run_id}/stream",
    "POST /threads/{thread_id}/runs/stream",
    "POST /threads/{thread_id}/runs/wait",
    "POST /threads/{thread_id}/runs/{run_id}/cancel",
    "GET /threads/{thread_id}/runs/{run_id}/join",
    "GET /threads/{thread_id}/runs/{run_id}/stream",
    "GET /threads/{thread_id}/stream",
    "POST /threads/{thread_id}/stream/events",
}
#: Routes without a gate, by the reason.
PLAIN = {
    "asks nothing of the pool, or once for all": {
        "GET /health",
        "GET /info",
        "GET /livez",
        "GET /metrics",
        "GET /ok",
        "GET /readyz",
        "GET /startupz",
    },
    "reads one row, or one state": {
        "GET /assistants/{assistant_id}",
        "GET /assistants/{assistant_id}/graph",
        "GET /assistants/{assistant_id}/schemas",
        "GET /assistants/{assistant_id}/subgraphs",
        "GET /assistants/{assistant_id}/subgraphs/{namespace:path}",
        "GET /runs/crons/{cron_id}",
        "GET /store/items",
        "GET /threads/{thread_id}",
        "GET /threads/{thread_id}/runs/{run_id}",
        "GET /threads/{thread_id}/state",
        "GET /threads/{thread_id}/state/{checkpoint_id}",
        "POST /threads/{thread_id}/state/checkpoint",
    },
    "writes one row": {
        "POST /assistants",
        "PATCH /assistants/{assistant_id}",
        "POST /assistants/{assistant_id}/latest",
        "POST /runs/crons",
        "POST /threads/{thread_id}/runs/crons",
        "PATCH /runs/crons/{cron_id}",
        "DELETE /runs/crons/{cron_id}",
        "DELETE /store/items",
        "PUT /store/items",
        "PATCH /threads/{thread_id}",
        "DELETE /threads/{thread_id}/runs/{run_id}",
    },
    "begins runs, which have the rest of the pool": {
        "POST /runs",
        "POST /runs/batch",
        "POST /threads/{thread_id}/runs",
        "POST /threads/{thread_id}/commands",
    },
}


def named(routes: list[BaseRoute]) -> dict[str, str]:
    """The kind of each route."""
    return {
        f"{method} {route.path}": kind_of(route.endpoint)
        for route in routes
        for method in getattr(route, "methods", ())
        if hasattr(route, "path") and hasattr(route, "endpoint")
    }


def test_every_route_has_a_kind():
    kinds = named(list(flattened(build_router().routes)))
    expected = {
        **dict.fromkeys(LISTS, "lists"),
        **dict.fromkeys(CHANGES, "changes"),
        **dict.fromkeys(LASTING, "lasting"),
        **{name: "plain" for some in PLAIN.values() for name in some},
    }
    assert kinds == expected


def flattened(routes: Any) -> Any:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from flattened(inner.routes)
        else:
            yield route


def places(share: Share | float = 1.0, **groups: Any) -> tuple[RequestGates, list[tuple[str, str]]]:
    refused: list[tuple[str, str]] = []
    made = RequestGates(
        Settings.model_validate(groups),
        share=share,
        count=lambda gate, reason: refused.append((gate, reason)),
    )
    return made, refused


async def test_who_finds_no_place_in_time_is_told_what_is_full():
    gates, refused = places(database={"pool_max": 5, "lists_part": 0.2, "part_wait_seconds": 0.05})
    async with gates.of_pool("lists", ""):
        with pytest.raises(PoolShareFull, match=r"Lists may hold 1 of the 5 .*lists_part.*0\.05 s"):
            async with gates.of_pool("lists", ""):
                pass
        async with gates.of_pool("changes", ""):
            pass
    assert refused == [("lists", "timeout")]
    assert gates.figures()["lists"] == GateFigures(0, 0)


async def test_only_so_many_wait_and_none_of_them_all():
    gates, refused = places(
        share=0.75,
        database={"pool_max": 5, "changes_part": 0.2, "part_max_waiting": 4},
    )

    async def one(caller: str) -> None:
        async with gates.of_pool("changes", caller):
            await asyncio.sleep(0.05)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(gates.of_pool("changes", "a"))
        # Three of the four places to wait in.
        waiting = [asyncio.create_task(one("a")) for _ in range(3)]
        await eventually(lambda: gates.figures()["changes"].waiting == 3)
        with pytest.raises(PoolShareFull, match="too many requests wait"):
            await one("a")
        waiting.append(asyncio.create_task(one("b")))
        await eventually(lambda: gates.figures()["changes"].waiting == 4)
    await asyncio.gather(*waiting)
    assert refused == [("changes", "queue_full")]
    assert gates.figures()["changes"] == GateFigures(0, 0)


def test_a_caller_above_its_share_of_lasting_answers_is_told_so_and_others_are_served():
    gates, refused = places(
        share=0.75, server={"max_connections": 4}, events={"max_thread_streams": 2}
    )
    leases = [gates.lasting("a") for _ in range(3)]
    with pytest.raises(CallerShareUsed, match=r"3 streams, waits and joins"):
        gates.lasting("a")
    leases.append(gates.lasting("b"))
    with pytest.raises(TooManyAnswers):
        gates.lasting("c")
    assert refused == [("answers", "share"), ("answers", "full")]
    for lease in leases * 2:
        lease.release()
    stream = gates.lasting("a", of_thread=True)
    with pytest.raises(CallerShareUsed, match="1 streams of threads"):
        gates.lasting("a", of_thread=True)
    gates.lasting("b", of_thread=True).release()
    assert gates.figures()["answers"] == GateFigures(1)
    stream.release()
    assert {one.held for one in gates.figures().values()} == {0}


def test_without_several_keys_one_caller_may_have_all():
    gates, _ = places(server={"max_connections": 5000}, events={"max_thread_streams": 1000})
    leases = [gates.lasting("", of_thread=True) for _ in range(1000)]
    with pytest.raises(TooManyStreams):
        gates.lasting("", of_thread=True)
    leases += [gates.lasting("") for _ in range(4000)]
    with pytest.raises(TooManyAnswers):
        gates.lasting("")


Served = tuple[httpx.AsyncClient, RequestGates, Any]


@asynccontextmanager
async def serve(url: str, folder: Path, **groups: Any) -> AsyncIterator[Served]:
    manifest = folder / "langgraph.json"
    manifest.write_text(f'{{"graphs": {{"plain": "{GRAPHS / "door.py"}:plain"}}}}')
    database = {"url": SecretStr(url), **groups.pop("database", {})}
    settings = settings_for(url, manifest, api_keys=f"{A},{B}", **groups, database=database)
    inner, seen = create_app(settings), {}

    async def tapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen["state"] = scope["state"]["headrace"]
        await inner(scope, receive, send)

    async with started(tapped) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://server", timeout=120
        ) as http:
            await http.get("/ok")
            yield http, seen["state"].get(RequestGates), app


async def timed(asked: Any) -> tuple[float, httpx.Response]:
    began = time.perf_counter()
    response = await asked
    return time.perf_counter() - began, response


async def test_whoever_sends_hundreds_at_once_is_not_served_before_all_others(
    database_url, tmp_path
):
    async with serve(database_url, tmp_path, callers={"requests_at_once": 8}) as (http, gates, _):
        body = {"assistant_id": "plain", "input": {"x": "1"}}

        async def run(key: str) -> httpx.Response:
            return await http.post("/runs/wait", json=body, headers={"x-api-key": key})

        burst = [asyncio.create_task(run(A)) for _ in range(150)]
        await eventually(lambda: gates.figures()["requests"].waiting > 100)
        done_before = sum(one.done() for one in burst)
        assert (await run(B)).status_code == 200
        # With each turn of B's go those of A that have one, six at most.
        assert sum(one.done() for one in burst) - done_before < 50
        assert gates.figures()["requests"].waiting > 50
        assert {answer.status_code for answer in await asyncio.gather(*burst)} == {200}
        await eventually(lambda: {one.held for one in gates.figures().values()} == {0})


async def test_no_turn_is_lost_whatever_becomes_of_a_request(database_url, tmp_path):
    async with serve(database_url, tmp_path, callers={"requests_at_once": 4}) as (http, gates, _):
        head = {"x-api-key": A, "content-type": "application/json"}

        async def ask(number: int) -> None:
            match number % 6:
                case 0:
                    await http.post("/threads", content=b"{", headers=head)
                case 1:
                    await http.post("/runs/wait", json={"assistant_id": 5}, headers=head)
                case 2:
                    await http.get(f"/threads/{number}", headers=head)
                case 3:
                    await http.post("/threads/search", json={}, headers=head)
                case 4:
                    await http.post("/chat", json={"messages": []}, headers=head)
                case _:
                    await http.get("/assistants/none/graph", headers=head)

        tasks = [asyncio.create_task(ask(number)) for number in range(120)]
        await asyncio.sleep(0.05)
        for task in tasks[::7]:
            task.cancel()
        await asyncio.wait(tasks)
        await eventually(lambda: {one.held for one in gates.figures().values()} == {0})
        assert gates.figures()["requests"] == GateFigures(0, 0)


async def test_a_turn_that_does_not_come_is_refused():
    gates, refused = places(share=0.75, callers={"requests_at_once": 2})
    gates.turns.gate._timeout_seconds = 0.05
    await gates.turns.take("a")
    with pytest.raises(CallerShareUsed, match="requests_at_once"):
        await gates.turns.take("a")
    await gates.turns.take("b")
    assert refused == [("requests", "timeout")]


async def test_one_caller_shares_its_turns_with_nobody():
    gates, _ = places(callers={"requests_at_once": 2})
    turns = [await gates.turns.take("") for _ in range(5)]
    assert gates.figures()["requests"] == GateFigures(0, 0)
    for turn in turns:
        turn.end()


@pytest.mark.parametrize("several", [True, False])
async def test_a_turn_survives_that_callers_become_several_or_one(several):
    share = Share(0.75, several=not several)
    gates, _ = places(share, callers={"requests_at_once": 2})
    before = [await gates.turns.take("a")]
    assert share.divide(several)
    after = [await gates.turns.take("b")]
    for turn in before + after:
        turn.end()
    assert {one.held for one in gates.figures().values()} == {0}


# It has bounds on time, and the work of other tests would count as the caller's.
@pytest.mark.alone
@pytest.mark.parametrize("pool_max", [4, 10])
async def test_changes_and_lists_of_one_caller_leave_runs_and_lists_to_the_other(
    database_url, tmp_path, pool_max
):
    database = {"pool_max": pool_max, "part_wait_seconds": 3}
    async with serve(database_url, tmp_path, database=database) as (http, gates, _):
        a, b = {"x-api-key": A}, {"x-api-key": B}
        steps = [{"updates": [{"values": {"log": ["x"]}, "as_node": "__start__"}]}]
        steps += [{"updates": [{"values": {"log": ["x"]}}]}] * 200
        made = {"metadata": {"graph_id": "plain"}, "supersteps": steps}
        greedy = [
            asyncio.create_task(http.post("/threads", json=made, headers=a)) for _ in range(40)
        ]
        greedy += [
            asyncio.create_task(
                http.post("/threads/search", json={"values": {"log": ["x"] * 90}}, headers=a)
            )
            for _ in range(40)
        ]
        await eventually(lambda: gates.figures()["changes"].waiting > 0)
        waits: list[tuple[float, httpx.Response]] = []
        searches: list[tuple[float, httpx.Response]] = []
        while not all(one.done() for one in greedy) and len(waits) < 100:
            body = {"assistant_id": "plain", "input": {"x": "1"}}
            waits.append(await timed(http.post("/runs/wait", json=body, headers=b)))
            searches.append(
                await timed(http.post("/threads/search", json={"limit": 10}, headers=b))
            )
            held = gates.figures()
            assert held["changes"].held + held["lists"].held < pool_max
        answers = [one.result() for one in await _all(greedy)]
        assert {answer.status_code for _, answer in waits + searches} == {200}
        assert max(seconds for seconds, _ in waits) < within(1), sorted(s for s, _ in waits)[-5:]
        assert max(seconds for seconds, _ in searches) < within(5)
        refused = [one for one in answers if one.status_code != 200]
        # On a busy machine a change may need more than its time.
        assert {(one.status_code, one.json()["code"]) for one in refused} <= {
            (503, "pool_share_full"),
            (503, "update_too_slow"),
        }
        assert all(one.headers["retry-after"] for one in refused)
        assert len(waits) > 5
        assert len(answers) - len(refused) > 5
        await eventually(lambda: {one.held for one in gates.figures().values()} == {0})


async def _all(tasks: list[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    await asyncio.wait(tasks)
    return tasks


async def test_supersteps_are_bounded_and_a_change_that_lasts_is_given_up(database_url, tmp_path):
    requests = {"max_superstep_updates": 100, "change_timeout_seconds": 0.05}
    async with serve(database_url, tmp_path, requests=requests) as (http, gates, _):
        steps = [{"updates": [{"values": {"log": ["x"]}, "as_node": "__start__"}]}] * 100
        made: dict[str, Any] = {"metadata": {"graph_id": "plain"}, "supersteps": steps}
        late = await http.post("/threads", json=made, headers={"x-api-key": A})
        assert (late.status_code, late.json()["code"]) == (503, "update_too_slow")
        made["supersteps"] = [*steps, steps[0]]
        large = await http.post("/threads", json=made, headers={"x-api-key": A})
        assert large.status_code == 422
        assert "max_superstep_updates" in large.json()["detail"]
        count = await http.post("/threads/count", json={}, headers={"x-api-key": A})
        assert count.json() == 0
        assert gates.figures()["changes"] == GateFigures(0, 0)


class Hasty:
    """A client of one stream who leaves at a moment of its own."""

    def __init__(self, path: str, method: str, body: bytes) -> None:
        self._sent = False
        self._body = body
        self.status = 0
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"x-api-key", A.encode()), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("server", 80),
        }
        self._leaves_after = random.choice([0, random.random() * 0.01, random.random() * 0.3])

    async def receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await asyncio.sleep(self._leaves_after)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if random.random() < 0.2:
                raise OSError("the client is gone before the first byte")
        await asyncio.sleep(random.choice([0, 0.001]))


async def test_streams_that_are_given_up_at_any_moment_hold_no_place(database_url, tmp_path):
    async with serve(database_url, tmp_path, server={"max_connections": 5000}) as (
        http,
        gates,
        app,
    ):
        made = await http.post("/threads", json={}, headers={"x-api-key": A})
        thread = f"/threads/{made.json()['thread_id']}"
        run = b'{"assistant_id": "plain", "input": {"x": "1"}}'
        kinds = [
            (f"{thread}/stream", "GET", b""),
            (f"{thread}/stream", "HEAD", b""),
            ("/threads/00000000-0000-0000-0000-000000000000/stream", "GET", b""),
            ("/runs/stream", "POST", run),
            ("/runs/wait", "POST", run),
            ("/runs/wait", "POST", b'{"assistant_id": "none"}'),
            ("/runs/wait", "POST", b"{"),
        ]
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            client = Hasty(*kinds[number % len(kinds)])
            task = asyncio.create_task(app(client.scope, client.receive, client.send))
            if random.random() < 0.3:
                await asyncio.sleep(random.random() * 0.1)
                task.cancel()
            await asyncio.wait([task])
            most = max(most, gates.figures()["answers"].held)

        for begin in range(0, 500, 50):
            await asyncio.gather(*(one(number) for number in range(begin, begin + 50)))
        assert most > 5
        await eventually(lambda: {one.held for one in gates.figures().values()} == {0})
