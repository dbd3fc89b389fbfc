"""Changes of a thread's state, and what runs make of them, against two server processes."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    UnprocessableEntityError,
)

from headrace.auth.principal import ANONYMOUS
from headrace.runs.schemas import RunCreate
from headrace.states.schemas import StateUpdate
from headrace.threads.schemas import ThreadCreate
from tests.support.graphs.forms import Steps
from tests.support.pair import open_states

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


@pytest.fixture
async def http(forms_server):
    async with httpx.AsyncClient(base_url=forms_server.url, timeout=30) as opened:
        yield opened


async def run_on_a_thread(client, graph_id: str, **body) -> str:
    thread_id: str = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, graph_id, **body)
    return thread_id


async def test_a_change_stands_as_if_its_node_had_run(client):
    thread_id = await run_on_a_thread(client, "pair", input={})
    before = await client.threads.get(thread_id)
    head = await client.threads.get_state(thread_id)
    made = await client.threads.update_state(thread_id, {"done": ["edited"]}, as_node="first")
    state = await client.threads.get_state(thread_id)
    assert made == {
        "checkpoint": state["checkpoint"],
        "configurable": state["checkpoint"],
        "checkpoint_id": state["checkpoint_id"],
    }
    assert state["parent_checkpoint"] == head["checkpoint"]
    assert (state["values"], state["next"]) == (
        {"done": ["first", "second", "edited"]},
        ["second"],
    )
    assert state["metadata"] == {
        "graph_id": "pair",
        "source": "update",
        "step": head["metadata"]["step"] + 1,
        "parents": {},
    }
    thread = await client.threads.get(thread_id)
    # What follows waits.
    assert (thread["status"], thread["interrupts"], thread["error"]) == ("interrupted", {}, None)
    assert thread["updated_at"] > before["updated_at"]
    assert thread["state_updated_at"] > before["state_updated_at"]
    assert thread["values"] == state["values"]

    assert await client.runs.wait(thread_id, "pair", input=None) == {
        "done": ["first", "second", "edited", "second"]
    }
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_question_is_answered_by_a_change_or_taken_back(client):
    thread_id = await run_on_a_thread(client, "hitl", input={"topic": "x"})
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    (asked,) = thread["interrupts"].values()
    assert asked[0]["value"] == {"question": "approve x?"}

    await client.threads.update_state(thread_id, {"answer": "by hand"}, as_node="ask")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})
    assert thread["values"] == {"topic": "x", "answer": "by hand"}

    # Asked once more, about something else than before.
    await client.threads.update_state(thread_id, {"topic": "y"}, as_node="__start__")
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    await client.runs.wait(thread_id, "hitl", input=None)
    (asked,) = (await client.threads.get(thread_id))["interrupts"].values()
    assert asked[0]["value"] == {"question": "approve y?"}
    resumed = await client.runs.wait(thread_id, "hitl", command={"resume": "yes"})
    assert resumed == {"topic": "y", "answer": "yes"}

    await client.runs.wait(thread_id, "hitl", input={"topic": "z"})
    await client.threads.update_state(thread_id, None, as_node="__end__")
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert (await client.threads.get_state(thread_id))["next"] == []


async def test_a_failed_run_is_mended(client):
    thread_id = await run_on_a_thread(client, "boom", input={"topic": "x"}, raise_error=False)
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]["error"]) == ("error", "ValueError")
    (task,) = (await client.threads.get_state(thread_id))["tasks"]
    assert task["error"] == "ValueError('kaboom in node')"
    await client.threads.update_state(thread_id, {"answer": "mended"}, as_node="boom")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)
    assert thread["values"] == {"topic": "x", "answer": "mended"}


async def test_a_thread_forks_at_a_checkpoint(client):
    thread_id = await run_on_a_thread(client, "agent", input={"messages": [("user", "one")]})
    history = await client.threads.get_history(thread_id)
    asked = next(state for state in history if state["next"] == ["reply"])

    # Edit: another message in place of the first, from the checkpoint before the reply.
    (first,) = asked["values"]["messages"]
    edited = {"role": "user", "content": "other", "id": first["id"]}
    made = await client.threads.update_state(
        thread_id, {"messages": [edited]}, checkpoint=asked["checkpoint"], as_node="__start__"
    )
    fork = await client.threads.get_state(thread_id)
    assert fork["checkpoint_id"] == made["checkpoint_id"]
    assert fork["parent_checkpoint"] == asked["checkpoint"]
    assert [one["content"] for one in fork["values"]["messages"]] == ["other"]
    after = await client.runs.wait(thread_id, "agent", input=None)
    assert [one["content"] for one in after["messages"]] == ["other", "message 1"]

    # Regenerate: a run from the checkpoint before the reply.
    again = await client.runs.wait(thread_id, "agent", input=None, checkpoint=asked["checkpoint"])
    assert [one["content"] for one in again["messages"]] == ["one", "message 1"]

    # By the id alone.
    made = await client.threads.update_state(
        thread_id, {"messages": []}, checkpoint_id=asked["checkpoint_id"], as_node="reply"
    )
    assert (await client.threads.get_state(thread_id))["values"] == asked["values"]

    # A copy of a checkpoint, tasks and all.
    copied = await client.threads.update_state(
        thread_id, None, checkpoint=asked["checkpoint"], as_node="__copy__"
    )
    state = await client.threads.get_state(thread_id)
    assert state["checkpoint_id"] == copied["checkpoint_id"]
    assert (state["metadata"]["source"], state["next"]) == ("fork", ["reply"])


async def test_the_state_of_a_subgraph_is_changed(client):
    thread_id = await run_on_a_thread(client, "nested_hitl", input={"topic": "n"})
    (task,) = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    inside = task["state"]["checkpoint"]
    made = await client.threads.update_state(
        thread_id, {"answer": "from inside"}, checkpoint=inside, as_node="inner_ask"
    )
    assert made["checkpoint"]["checkpoint_ns"] == inside["checkpoint_ns"]
    assert made["checkpoint"]["checkpoint_map"][""] == inside["checkpoint_map"][""]
    # The whole still waits for its subgraph.
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    done = await client.runs.wait(thread_id, "nested_hitl", input=None)
    assert done == {"topic": "n", "answer": "from inside"}


async def test_threads_are_made_with_states(client, http):
    supersteps = [
        {"updates": [{"values": {"messages": [("user", "seed")]}, "as_node": "__start__"}]},
        {"updates": [{"values": {"messages": [("ai", "seeded")]}, "as_node": "reply"}]},
    ]
    thread_id = str(uuid4())
    thread = await client.threads.create(
        thread_id=thread_id, graph_id="agent", supersteps=supersteps, ttl=60
    )
    assert (thread["status"], thread["error"], thread["interrupts"]) == ("idle", None, {})
    assert thread["metadata"] == {"graph_id": "agent"}
    assert [one["content"] for one in thread["values"]["messages"]] == ["seed", "seeded"]
    shown = (await http.get(f"/threads/{thread_id}", params={"include": "ttl"})).json()
    assert shown["ttl"]["ttl_minutes"] == 60
    history = await client.threads.get_history(thread_id)
    assert [state["metadata"]["step"] for state in history] == [1, 0]
    assert [state["metadata"]["source"] for state in history] == ["update"] * 2
    after = await client.runs.wait(thread_id, "agent", input={"messages": [("user", "more")]})
    assert after["messages"][-1]["content"] == "message 3"

    with pytest.raises(ConflictError):
        await client.threads.create(thread_id=thread_id, graph_id="agent", supersteps=supersteps)
    kept = await client.threads.create(
        thread_id=thread_id, graph_id="agent", supersteps=supersteps, if_exists="do_nothing"
    )
    assert kept["values"] == after

    side_by_side = [
        {
            "updates": [
                {"values": None, "command": {"update": {"done": ["a"]}}, "as_node": "first"},
                {"values": {"done": ["b"]}, "as_node": "second"},
            ]
        }
    ]
    thread = await client.threads.create(graph_id="pair", supersteps=side_by_side)
    assert thread["values"] == {"done": ["a", "b"]}


async def test_a_thread_whose_states_cannot_be_made_is_not_made(client):
    thread_id = str(uuid4())
    step: dict[str, Any] = {"values": {"messages": []}, "as_node": "ghost"}
    with pytest.raises(BadRequestError, match="Node ghost does not exist"):
        await client.threads.create(
            thread_id=thread_id, graph_id="agent", supersteps=[{"updates": [step]}]
        )
    with pytest.raises(BadRequestError, match="name it in the thread's metadata as 'graph_id'"):
        await client.threads.create(thread_id=thread_id, supersteps=[{"updates": [step]}])
    with pytest.raises(NotFoundError, match="Graph 'ghost' not found"):
        await client.threads.create(
            thread_id=thread_id, graph_id="ghost", supersteps=[{"updates": [step]}]
        )
    with pytest.raises(UnprocessableEntityError, match=r"supersteps\.0\.updates"):
        await client.threads.create(
            thread_id=thread_id, graph_id="agent", supersteps=[{"updates": []}]
        )
    with pytest.raises(NotFoundError):
        await client.threads.get(thread_id)


async def test_what_cannot_be_changed_says_why_and_stays(client, http):
    thread_id = (await client.threads.create())["thread_id"]
    with pytest.raises(BadRequestError, match="set 'graph_id' in its metadata"):
        await client.threads.update_state(thread_id, {"done": []})
    await client.threads.update(thread_id, metadata={"graph_id": "pair"})
    with pytest.raises(BadRequestError, match="Node ghost does not exist"):
        await client.threads.update_state(thread_id, {"done": []}, as_node="ghost")
    with pytest.raises(NotFoundError, match=r"has no checkpoint .*; its history lists"):
        await client.threads.update_state(
            thread_id, {"done": []}, as_node="first", checkpoint_id=str(uuid4())
        )
    with pytest.raises(UnprocessableEntityError, match="does not take these values: TypeError"):
        await client.threads.update_state(thread_id, {"done": 7}, as_node="first")
    with pytest.raises(UnprocessableEntityError, match="Subgraph ghost not found"):
        await client.threads.update_state(
            thread_id, {"done": []}, as_node="first", checkpoint={"checkpoint_ns": "ghost:1"}
        )
    with pytest.raises(NotFoundError, match="Thread with ID"):
        await client.threads.update_state(str(uuid4()), {"done": []})
    words = await http.post(f"/threads/{thread_id}/state", json={"values": "words"})
    assert words.status_code == 422
    assert (await http.patch(f"/threads/{thread_id}/state", json={})).status_code == 405
    assert await client.threads.get_history(thread_id) == []
    assert (await client.threads.get(thread_id))["values"] is None
    await client.threads.update(thread_id, metadata={"graph_id": "gone"})
    with pytest.raises(NotFoundError, match="Graph 'gone' not found"):
        await client.threads.update_state(thread_id, {"done": []}, as_node="first")


async def test_a_thread_that_a_run_has_is_not_changed(client):
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "slow", input={"seconds": 30})
    with pytest.raises(ConflictError, match=f"run in flight .{run['run_id']}.; wait for its end"):
        await client.threads.update_state(thread_id, {"done": [9]}, as_node="step0")
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    await client.threads.update_state(thread_id, {"done": [9]}, as_node="step2")
    assert (await client.threads.get_state(thread_id))["values"]["done"] == [9]

    # One that waits for its time does not have it yet, and is waited for.
    later = await client.runs.create(thread_id, "slow", input={}, after_seconds=3600)
    await client.threads.update_state(thread_id, {"done": [10]}, as_node="step2")
    assert (await client.threads.get(thread_id))["status"] == "busy"
    await client.runs.cancel(thread_id, later["run_id"], wait=True)


async def test_changes_at_the_same_time_come_one_after_the_other(client):
    thread_id = (await client.threads.create(graph_id="pair"))["thread_id"]
    count = 12
    await asyncio.gather(
        *(
            client.threads.update_state(thread_id, {"done": [str(n)]}, as_node="second")
            for n in range(count)
        )
    )
    state = await client.threads.get_state(thread_id)
    assert sorted(state["values"]["done"], key=int) == [str(n) for n in range(count)]
    history = await client.threads.get_history(thread_id, limit=100)
    assert [one["parent_checkpoint_id"] for one in history[:-1]] == [
        one["checkpoint_id"] for one in history[1:]
    ]


async def test_no_run_begins_in_the_middle_of_a_change(client, forms_server):
    """Whoever has the thread's row, as a change does from its first statement to its commit."""
    thread_id = await run_on_a_thread(client, "pair", input={})
    with psycopg.connect(forms_server.database_url) as database:
        database.execute(
            "SELECT 1 FROM threads WHERE thread_id = %s FOR NO KEY UPDATE", (thread_id,)
        )
        run = asyncio.create_task(client.runs.wait(thread_id, "pair", input={}))
        change = asyncio.create_task(
            client.threads.update_state(thread_id, {"done": ["between"]}, as_node="second")
        )
        done, _ = await asyncio.wait({run, change}, timeout=0.5)
        assert not done
        database.rollback()
    outcomes = await asyncio.gather(run, change, return_exceptions=True)
    expected = ["first", "second", "between", "first", "second"]
    if isinstance(outcomes[1], ConflictError):
        expected.remove("between")
    else:
        assert not isinstance(outcomes[1], BaseException)
    done_steps = (await client.threads.get_state(thread_id))["values"]["done"]
    assert sorted(done_steps) == sorted(expected)


async def test_a_graph_that_is_made_for_each_run_is_made_as_the_last_run_wanted_it(client):
    config = {"configurable": {"node": "own"}}
    thread_id = await run_on_a_thread(client, "made", input={"topic": "x"}, config=config)
    history = await client.threads.get_history(thread_id)
    assert [state["next"] for state in history] == [[], ["own"], ["__start__"]]
    await client.threads.update_state(thread_id, {"made_for": "nobody"}, as_node="own")
    assert (await client.threads.get_state(thread_id))["values"]["made_for"] == "nobody"


async def test_a_change_that_is_lost_in_the_middle_leaves_nothing(database_url):
    asked, answer = asyncio.Event(), asyncio.Event()

    async def route(state: dict[str, Any]) -> str:
        if "by hand" in state["done"]:
            asked.set()
            await answer.wait()
        return END

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Steps)
    builder.add_node("first", lambda state: {"done": ["first"]})
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", route, [END])
    async with open_states(database_url, {"pair": builder}) as (here, there):
        created = ThreadCreate(metadata={"graph_id": "pair"})
        thread_id = (await here.threads.create(ANONYMOUS, created)).thread_id
        change = StateUpdate(values={"done": ["by hand"]}, as_node="first")
        changing = asyncio.ensure_future(here.states.update(ANONYMOUS, thread_id, change))
        await asked.wait()
        body = RunCreate.model_validate({"assistant_id": "pair", "input": {}})
        starting = asyncio.ensure_future(
            there.runs.create(ANONYMOUS, thread_id, body, request_id="")
        )
        done, _ = await asyncio.wait({changing, starting}, timeout=0.3)
        assert not done
        changing.cancel()
        outcome = await (await starting).outcome(20)
        assert outcome is not None
        assert (outcome.status, outcome.values) == ("success", {"done": ["first"]})
        state = await here.states.read(ANONYMOUS, thread_id)
        assert state.values == {"done": ["first"]}


def test_the_synchronous_client_does_the_same(forms_server):
    with get_sync_client(url=forms_server.url) as client:
        thread_id = client.threads.create(graph_id="pair")["thread_id"]
        made = client.threads.update_state(thread_id, {"done": ["x"]}, as_node="first")
        state = client.threads.get_state(thread_id)
        assert state["checkpoint"] == made["checkpoint"]
        at = client.threads.get_state(thread_id, checkpoint=made["checkpoint"])
        assert at["values"] == state["values"] == {"done": ["x"]}
        assert [one["values"] for one in client.threads.get_history(thread_id)] == [{"done": ["x"]}]
