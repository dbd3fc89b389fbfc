"""What callers see of a run between the request to stop it and its end."""

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from headrace.queue.ends import RunEnd, StopAsked
from headrace.queue.queue import Queue
from headrace.queue.rows import Attempt, StopAction
from tests.support.apps import app_client, settings_for
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import DONE, register_process, run_request

#: ``stubborn`` begins to stop when it is asked to, and is done with that when it is allowed to;
#: ``deaf`` does not notice that it is asked and ends as if nothing were.
GRAPH = """
import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    folder: str
    done: bool


async def until(path):
    # Bounded, for tests that fail before they allow it.
    for _ in range(500):
        if path.exists():
            break
        await asyncio.sleep(0.01)


async def stubborn(state):
    folder = Path(state["folder"])
    (folder / "begun").touch()
    try:
        await asyncio.Event().wait()
    finally:
        await until(folder / "may_stop")


async def deaf(state):
    folder = Path(state["folder"])
    (folder / "begun").touch()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await until(folder / "may_stop")
    return {"done": True}


async def quick(state):
    return {"done": True}


def graph_of(node):
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


stubborn_graph, deaf_graph, quick_graph = map(graph_of, (stubborn, deaf, quick))
"""


@pytest.fixture
async def client(database_url, tmp_path):
    (tmp_path / "graph.py").write_text(GRAPH)
    names = ("stubborn", "deaf", "quick")
    manifest = tmp_path / "langgraph.json"
    manifest.write_text(
        json.dumps({"graphs": {name: f"./graph.py:{name}_graph" for name in names}})
    )
    async with app_client(settings_for(database_url, manifest)) as opened:
        yield opened


async def begun(client, folder: Path, graph: str = "stubborn") -> str:
    """The path of a run that is in its node."""
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": graph, "input": {"folder": str(folder)}}
    run = (await client.post(f"/threads/{thread}/runs", json=body)).json()
    async with asyncio.timeout(10):
        while not (folder / "begun").exists():
            await asyncio.sleep(0.01)
    return f"/threads/{thread}/runs/{run['run_id']}"


async def listed(client, path: str, status: str | None = None) -> list[str]:
    runs = path.rpartition("/")[0]
    answer = await client.get(runs, params={"status": status} if status else {})
    return [run["status"] for run in answer.json()]


@pytest.mark.parametrize("many", [False, True])
async def test_a_run_that_was_asked_to_stop_is_shown_as_interrupted_at_once(client, tmp_path, many):
    path = await begun(client, tmp_path)
    _, _, thread, _, run_id = path.split("/")
    if many:
        body = {"thread_id": thread, "run_ids": [run_id]}
        assert (await client.post("/runs/cancel", json=body)).status_code == 204
    else:
        assert (await client.post(f"{path}/cancel", params={"wait": 0})).status_code == 202
    # Its graph has not stopped yet.
    assert (await client.get(path)).json()["status"] == "interrupted"
    assert await listed(client, path) == ["interrupted"]
    assert await listed(client, path, "running") == []
    assert await listed(client, path, "interrupted") == ["interrupted"]
    assert (await client.get(f"/threads/{thread}")).json()["status"] == "busy"
    (tmp_path / "may_stop").touch()
    assert (await client.get(f"{path}/join")).status_code == 200
    assert (await client.get(path)).json()["status"] == "interrupted"
    assert (await client.get(f"/threads/{thread}")).json()["status"] == "interrupted"


async def test_a_run_that_is_rolled_back_is_gone_at_once(client, tmp_path):
    path = await begun(client, tmp_path)
    answer = await client.post(f"{path}/cancel", params={"wait": 0, "action": "rollback"})
    assert answer.status_code == 202
    assert (await client.get(path)).status_code == 404
    assert await listed(client, path) == []
    assert await listed(client, path, "running") == await listed(client, path, "interrupted") == []
    (tmp_path / "may_stop").touch()
    # Who has its id still learns when it has stopped.
    assert (await client.post(f"{path}/cancel", params={"wait": 1})).status_code in (200, 404)
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_the_next_run_is_not_refused_for_one_that_stops(client, tmp_path, action):
    path = await begun(client, tmp_path)
    runs = path.rpartition("/")[0]
    rejecting = {"assistant_id": "quick", "input": {}, "multitask_strategy": "reject"}
    # Before anybody has asked the first to stop it is.
    assert (await client.post(f"{runs}/wait", json=rejecting)).status_code == 409
    await client.post(f"{path}/cancel", params={"wait": 0, "action": action})
    made = await client.post(runs, json=rejecting)
    assert made.status_code == 200
    # The one that waits now is a reason again.
    assert (await client.post(runs, json=rejecting)).status_code == 409
    assert made.json()["status"] == "pending"
    (tmp_path / "may_stop").touch()
    answer = await client.get(f"{runs}/{made.json()['run_id']}/join")
    assert answer.json()["done"] is True
    assert (await client.get(f"{runs}/{made.json()['run_id']}")).json()["status"] == "success"


async def test_a_graph_that_stops_has_left_its_thread_when_the_answer_comes(client, tmp_path):
    path = await begun(client, tmp_path)
    (tmp_path / "may_stop").touch()
    assert (await client.post(f"{path}/cancel", params={"wait": 0})).status_code == 202
    thread = path.split("/")[2]
    assert (await client.get(f"/threads/{thread}")).json()["status"] == "interrupted"


@pytest.mark.parametrize(("action", "status"), [("interrupt", 200), ("rollback", 404)])
async def test_a_run_ends_as_what_it_was_asked_to_whatever_its_graph_makes_of_it(
    client, tmp_path, action, status
):
    path = await begun(client, tmp_path, "deaf")
    await client.post(f"{path}/cancel", params={"wait": 0, "action": action})
    (tmp_path / "may_stop").touch()
    await client.get(f"{path}/join")
    answer = await client.get(path)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["status"] == "interrupted"


async def test_a_run_that_is_to_stop_cannot_end_otherwise(database_url):
    async with open_pool(database_url, pool_max=4) as pool, open_writer(pool) as writer:
        queue = Queue(pool, writer)
        with psycopg.connect(database_url, autocommit=True) as database:
            owner = register_process(database)
        kept_by: dict[StopAction, bool] = {"interrupt": True, "delete": True, "rollback": False}
        for action, kept in kept_by.items():
            asked = run_request(f"t-{action}")
            attempt = await queue.start_run_if_free(asked, owner)
            await queue.cancel(asked.principal, [asked.run_id], action, "stop", "client")

            async def end(run_end: RunEnd, attempt: Attempt = attempt) -> None:
                await queue.end_if_owned(attempt.token, attempt.request.thread_id, run_end)

            for other in (DONE, RunEnd("error", "error", {"error": "E", "message": "m"})):
                with pytest.raises(StopAsked) as refused:
                    await end(other)
                assert refused.value.action == action
            stopped = RunEnd("interrupted", "interrupted")
            if kept:
                await end(stopped)
            else:
                with pytest.raises(StopAsked):
                    await end(stopped)
