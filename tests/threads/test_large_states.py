"""States that are larger than an answer may be: pages end early, or say what to ask instead."""

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from headrace.server.app import create_app
from tests.support.apps import app_client, settings_for, started
from tests.support.engine import ENGINES

GRAPH = """
import operator
from typing import Annotated, Any, TypedDict
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    small: str
    big: Annotated[list[str], operator.add]

class Stepwise(TypedDict, total=False):
    small: str
    big: Annotated[list[str], DeltaChannel(lambda held, steps: sum(steps, held or []), list)]

def make(state):
    builder = StateGraph(state)
    builder.add_node("look", lambda state: {"small": f"{len(state['big'])} held"})
    builder.add_edge(START, "look")
    builder.add_edge("look", END)
    return builder

graph, stepwise = make(State), make(Stepwise)
"""

KB = 1024
#: Bytes that each run adds.
PART = 100 * KB
BOUNDS = {
    "max_bytes": 450 * KB,
    "max_state_bytes": 550 * KB,
    "max_filtered_bytes": 2048 * KB,
    "memory_bytes": 1024 * KB,
    "wait_seconds": 0.3,
}


def bounded(database_url, folder, *, engine="group_commit", **answers):
    """Its settings."""
    (folder / "big.py").write_text(GRAPH)
    manifest = folder / "langgraph.json"
    graphs = {name: f"./big.py:{name}" for name in ("graph", "stepwise")}
    manifest.write_text(json.dumps({"graphs": graphs, "dependencies": ["."]}))
    return settings_for(
        database_url, manifest, answers={**BOUNDS, **answers}, checkpointer={"engine": engine}
    )


@asynccontextmanager
async def server(database_url, folder, **options):
    async with app_client(bounded(database_url, folder, **options)) as client:
        yield client


async def grown(client, runs, graph="graph", **thread):
    """A thread to which so many runs have added a part each."""
    thread_id = (await client.post("/threads", json=thread)).json()["thread_id"]
    for number in range(runs):
        body = {"assistant_id": graph, "input": {"big": [str(number) * PART]}}
        answer = await client.post(f"/threads/{thread_id}/runs/wait", json=body)
        assert answer.status_code == 200
    return thread_id


async def pages(client, thread_id, limit, **query):
    before: str | None = None
    found: list[list[Any]] = []
    while True:
        params = {"limit": limit - sum(len(page) for page in found), **query}
        if before:
            params["before"] = before
        answer = await client.get(f"/threads/{thread_id}/history", params=params)
        assert answer.status_code == 200, answer.text[:300]
        found.append(answer.json())
        before = answer.headers.get("X-Pagination-Next")
        if before is None:
            return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("graph", ["graph", "stepwise"])
async def test_pages_of_a_history_together_hold_every_state(database_url, tmp_path, engine, graph):
    async with server(database_url, tmp_path, engine=engine) as client:
        thread_id = await grown(client, 4, graph)
        found = await pages(client, thread_id, 50)
    assert len(found) > 3
    assert all(page for page in found)
    assert max(len(json.dumps(page)) for page in found) < BOUNDS["max_bytes"] + 250 * KB
    async with server(database_url, tmp_path, max_bytes=10**8, memory_bytes=10**9) as client:
        (whole,) = await pages(client, thread_id, 50)
        (few,) = await pages(client, thread_id, 5)
    assert [state for page in found for state in page] == whole
    assert len(whole) == 12
    assert few == whole[:5]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_state_beyond_the_bound_is_refused_and_its_parts_are_not(
    database_url, tmp_path, engine
):
    async with server(database_url, tmp_path, engine=engine) as client:
        thread_id = await grown(client, 6)
        path = f"/threads/{thread_id}"
        for route in ("state", "history"):
            refused = await client.get(f"{path}/{route}")
            assert (refused.status_code, refused.json()["code"]) == (413, "answer_too_large")
            assert "select=values.<key>" in refused.json()["detail"]
            for select, shown in (
                ("values.small", {"values": {"small": "6 held"}}),
                ("created_at,checkpoint_id", None),
            ):
                answer = await client.get(f"{path}/{route}", params={"select": select})
                assert answer.status_code == 200
                (state,) = answer.json() if route == "history" else [answer.json()]
                assert shown in (None, state)
        thread = (await client.get(path)).json()
        assert thread["values"] is None
        assert "select=values.<key>" in thread["values_omitted"]
        (run, *_) = (await client.get(f"{path}/runs")).json()
        joined = (await client.get(f"{path}/runs/{run['run_id']}/join")).json()
        assert joined["__error__"]["error"] == "AnswerTooLarge"
        stopped = await client.delete(f"{path}/runs/{run['run_id']}")
        assert stopped.status_code == 204
        # A run has no such bound.
        body = {"assistant_id": "graph", "input": {"big": ["last"]}}
        waited = (await client.post(f"{path}/runs/wait", json=body)).json()
        assert (len(waited["big"]), waited["small"]) == (7, "7 held")


async def test_a_page_of_threads_ends_early_and_one_thread_never_takes_it_away(
    database_url, tmp_path
):
    async with server(database_url, tmp_path) as client:
        made = [await grown(client, runs) for runs in (3, 1, 6, 2, 0, 3)]

        async def search(**body):
            found: list[Any] = []
            offset: int | None = 0
            sizes: list[int] = []
            while offset is not None:
                answer = await client.post(
                    "/threads/search",
                    json={"limit": 10, "sort_order": "asc", **body} | {"offset": offset},
                )
                assert answer.status_code == 200, answer.text[:300]
                sizes.append(len(answer.json()))
                found += answer.json()
                following = answer.headers.get("X-Pagination-Next")
                offset = None if following is None else int(following)
            return found, sizes

        found, sizes = await search()
        assert [one["thread_id"] for one in found] == made
        assert len(sizes) > 2
        held = [len(one["values"]["big"]) if one["values"] else None for one in found]
        assert held == [3, 1, None, 2, None, 3]
        assert "values_omitted" in found[2]
        # What is not asked for is not read.
        extract = {"said": "values.small"}
        found, sizes = await search(extract=extract, select=["thread_id"])
        assert (sizes, found[2]["extracted"]) == ([6], {"said": "6 held"})
        count = await client.post("/threads/count", json={"values": {"small": "6 held"}})
        assert (count.status_code, count.json()) == (200, 1)
        found, _ = await search(values={"small": "3 held"}, select=["thread_id"])
        assert [one["thread_id"] for one in found] == [made[0], made[5]]


async def test_a_filter_on_values_looks_into_so_many_bytes(database_url, tmp_path):
    async with server(database_url, tmp_path, max_filtered_bytes=250 * KB) as client:
        one, other = await grown(client, 1), await grown(client, 2)
        wanted = {"values": {"big": ["0" * PART]}}
        refused = await client.post("/threads/count", json=wanted)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert "narrow them" in refused.json()["detail"]
        for thread_id in (one, other):
            narrowed = await client.post("/threads/count", json={**wanted, "ids": [thread_id]})
            assert (narrowed.status_code, narrowed.json()) == (200, 1)


async def test_a_large_state_is_told_as_small_ones_are(database_url, tmp_path):
    async with server(database_url, tmp_path) as client:
        thread_id = await grown(client, 4)
        (head, *_) = (await client.get(f"/threads/{thread_id}/history")).json()
        state = (await client.get(f"/threads/{thread_id}/state")).json()
        assert state == head
        assert state["values"] == {
            "small": "4 held",
            "big": [str(number) * PART for number in range(4)],
        }
        thread = (await client.get(f"/threads/{thread_id}")).json()
        assert thread["values"] == state["values"]
        metrics = (await client.get("/metrics")).text
        assert "headrace_answers_bytes 0.0" in metrics


class Unread:
    """The app, for a client that reads only when it is let: whoever sends ``x-slow``."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.let = asyncio.Event()
        self.answering = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def held(message: Any) -> None:
            self.answering.set()
            await self.let.wait()
            await send(message)

        is_slow = (b"x-slow", b"1") in scope["headers"]
        await self._app(scope, receive, held if is_slow else send)


async def test_where_answers_take_all_memory_others_are_told_to_come_again(database_url, tmp_path):
    async with started(create_app(bounded(database_url, tmp_path))) as app:
        unread = Unread(app)
        transport = httpx.ASGITransport(unread)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            large, small = await grown(client, 4), await grown(client, 0)
            path = f"/threads/{large}"
            reading = asyncio.create_task(client.get(f"{path}/state", headers={"x-slow": "1"}))
            await unread.answering.wait()
            for ask in (path, f"{path}/state", f"{path}/history"):
                refused = await client.get(ask)
                assert (refused.status_code, refused.json()["code"]) == (503, "answers_full")
                assert refused.headers["retry-after"] == "2"
            # Small ones never wait.
            assert (await client.get(f"/threads/{small}/state")).status_code == 200
            metrics = (await client.get("/metrics")).text
            assert 'headrace_bounded_answers_total{outcome="no_room"}' in metrics
            unread.let.set()
            assert (await reading).status_code == 200
            assert (await client.get(f"{path}/state")).json() == (await reading).json()


async def test_a_door_tells_when_to_come_again(database_url, tmp_path):
    settings = bounded(database_url, tmp_path, wait_seconds=0.1)
    manifest = tmp_path / "langgraph.json"
    opened = {**json.loads(manifest.read_text()), "http": {"doors": ["a2a"]}}
    manifest.write_text(json.dumps(opened))
    async with started(create_app(settings)) as app:
        unread = Unread(app)
        transport = httpx.ASGITransport(unread)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            large = await grown(client, 4)
            (run, *_) = (await client.get(f"/threads/{large}/runs")).json()
            call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get"}
            call |= {"params": {"id": run["run_id"]}}
            assert "result" in (await client.post("/a2a/graph", json=call)).json()
            slow = {"x-slow": "1"}
            reading = asyncio.create_task(client.get(f"/threads/{large}/state", headers=slow))
            await unread.answering.wait()
            refused = await client.post("/a2a/graph", json=call)
            assert refused.json()["error"]["data"] == {"code": "answers_full"}
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            unread.let.set()
            assert (await reading).status_code == 200
