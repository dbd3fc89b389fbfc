"""States of threads, earlier ones and what they take up, against two server processes."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

pytestmark = pytest.mark.acceptance

EMPTY: dict[str, Any] = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}


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


async def test_states_at_checkpoints_through_each_of_the_three_routes(client):
    thread_id = await run_on_a_thread(client, "pair", input={"done": ["in"]})
    last, middle, *_ = await client.threads.get_history(thread_id)
    assert last["values"] == {"done": ["in", "first", "second"]}
    assert (middle["values"], middle["next"]) == ({"done": ["in", "first"]}, ["second"])
    assert middle["tasks"][0]["result"] == {"done": ["second"]}
    assert last["parent_checkpoint"] == middle["checkpoint"]
    assert last["parent_checkpoint_id"] == middle["checkpoint_id"]

    assert await client.threads.get_state(thread_id) == last
    # RemoteGraph's form.
    assert await client.threads.get_state(thread_id, {"thread_id": thread_id}) == last
    assert await client.threads.get_state(thread_id, checkpoint=middle["checkpoint"]) == middle
    at = await client.threads.get_state(thread_id, checkpoint_id=middle["checkpoint_id"])
    assert at == middle


async def test_a_state_that_is_not_there_is_empty(client):
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    assert await client.threads.get_state(thread_id) == EMPTY
    assert await client.threads.get_state(thread_id, {"thread_id": thread_id}) == EMPTY
    unknown = str(uuid4())
    asked = {"checkpoint_id": unknown, "thread_id": thread_id}
    assert await client.threads.get_state(thread_id, checkpoint_id=unknown) == {
        **EMPTY,
        "checkpoint": asked,
        "checkpoint_id": unknown,
    }
    assert await client.threads.get_history(thread_id) == []


async def test_what_is_selected_is_all_that_comes(client, http):
    thread_id = await run_on_a_thread(client, "ctx", input={"topic": "x"})
    only_topic = await client.threads.get_state(thread_id, select=["values.topic", "next"])
    assert only_topic == {"next": [], "values": {"topic": "x"}}
    checkpoint = {"thread_id": thread_id}
    posted = await client.threads.get_state(thread_id, checkpoint, select=["values.topic"])
    assert posted == {"values": {"topic": "x"}}
    history = await client.threads.get_history(thread_id, select=["values.topic"])
    assert history[0] == {"values": {"topic": "x"}}
    # As JavaScript and people write it.
    for words in ('["values.topic","next"]', "values.topic,next"):
        answer = await http.get(f"/threads/{thread_id}/state", params={"select": words})
        assert answer.json() == only_topic
    for path in ("state", "history"):
        answer = await http.get(f"/threads/{thread_id}/{path}", params={"select": "nope"})
        assert answer.status_code == 422
        assert "'nope' is not one of values, next, tasks" in answer.json()["detail"]
    with pytest.raises(UnprocessableEntityError, match="'nope' is not one of values"):
        await client.threads.get_history(thread_id, select=["nope"])


async def test_history_is_bounded_filtered_and_read_on(client, http):
    thread_id = await run_on_a_thread(client, "pair", input={}, metadata={"batch": "one"})
    await client.runs.wait(thread_id, "pair", input={}, metadata={"batch": "two"})
    everything = await client.threads.get_history(thread_id, limit=100)
    ids = [state["checkpoint_id"] for state in everything]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 8

    async def read(**body) -> list[str]:
        answer = await http.post(f"/threads/{thread_id}/history", json=body)
        assert answer.status_code == 200, answer.text
        return [state["checkpoint_id"] for state in answer.json()]

    assert await read() == ids[:1]
    assert await read(limit=3) == ids[:3]
    for before in (
        ids[2],
        {"checkpoint_id": ids[2], "thread_id": thread_id},
        {"configurable": {"checkpoint_id": ids[2]}},
    ):
        assert await read(limit=2, before=before) == ids[3:5]
    assert await read(limit=100, metadata={"batch": "one"}) == ids[4:]
    assert await read(limit=100, metadata={"batch": "three"}) == []
    assert await read(checkpoint={"checkpoint_id": ids[5]}) == [ids[5]]
    got = await http.get(f"/threads/{thread_id}/history", params={"limit": 2, "before": ids[2]})
    assert [state["checkpoint_id"] for state in got.json()] == ids[3:5]
    assert (await http.post(f"/threads/{thread_id}/history")).json() == everything[:1]


async def test_states_of_subgraphs(client):
    thread_id = await run_on_a_thread(client, "nested_hitl", input={"topic": "n"})
    (task,) = (await client.threads.get_state(thread_id, subgraphs=True))["tasks"]
    inside = task["state"]
    assert (inside["next"], inside["values"]) == (["inner_ask"], {"topic": "n"})
    assert inside["interrupts"][0]["value"] == {"inner": "n?"}
    assert inside["checkpoint"]["checkpoint_ns"] == f"child:{task['id']}"

    (shallow,) = (await client.threads.get_state(thread_id))["tasks"]
    assert shallow["state"] is None
    assert shallow["interrupts"] == task["interrupts"]

    named = await client.threads.get_state(thread_id, checkpoint=inside["checkpoint"])
    assert (named["next"], named["values"]) == (inside["next"], inside["values"])
    assert named["checkpoint"] == inside["checkpoint"]
    here = {"checkpoint_ns": inside["checkpoint"]["checkpoint_ns"]}
    history = await client.threads.get_history(thread_id, checkpoint=here)
    assert [state["checkpoint"]["checkpoint_ns"] for state in history] == [
        here["checkpoint_ns"]
    ] * 2
    assert history[0]["next"] == ["inner_ask"]

    by_map = {"checkpoint_ns": here["checkpoint_ns"]}
    by_map["checkpoint_map"] = inside["checkpoint"]["checkpoint_map"]
    assert (await client.threads.get_state(thread_id, checkpoint=by_map))["values"] == {
        "topic": "n"
    }


async def test_what_a_thread_takes_up(client, http):
    thread_id = await run_on_a_thread(client, "pair", input={})
    storage = (await http.get(f"/threads/{thread_id}/storage")).json()
    assert storage["thread_id"] == thread_id
    assert storage["checkpoints"]["count"] == 4
    assert storage["channel_values"]["by_channel"]["done"]["versions"] == 2
    assert storage["channel_values"]["by_channel"]["done"]["bytes"] > 0
    assert storage["pending_writes"]["count"] > 0
    parts = ("checkpoints", "channel_values", "pending_writes")
    assert storage["total_bytes"] == sum(storage[part]["bytes"] for part in parts)
    nothing = await http.get(f"/threads/{(await client.threads.create())['thread_id']}/storage")
    assert nothing.json()["total_bytes"] == 0
    assert nothing.json()["channel_values"]["by_channel"] == {}


async def test_what_cannot_be_read_says_why(client, http):
    thread_id = (await client.threads.create())["thread_id"]
    unknown = str(uuid4())
    for reading in (
        client.threads.get_state(unknown),
        client.threads.get_state(unknown, checkpoint_id=str(uuid4())),
        client.threads.get_state(unknown, {"thread_id": unknown}),
        client.threads.get_history(unknown),
    ):
        with pytest.raises(NotFoundError, match=f"Thread with ID {unknown} not found"):
            await reading
    assert (await http.get(f"/threads/{unknown}/storage")).status_code == 404
    with pytest.raises(UnprocessableEntityError, match="send the checkpoint of that thread"):
        await client.threads.get_state(thread_id, {"thread_id": unknown})
    for body, said in (
        ({"before": {}}, "send a checkpoint id"),
        ({"limit": -1}, "limit: Input should be greater than or equal to 0"),
        ({"limit": 1001}, "limit: Input should be less than or equal to 1000"),
    ):
        answer = await http.post(f"/threads/{thread_id}/history", json=body)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    nul = await http.get(f"/threads/{thread_id}/state/a%00b")
    assert nul.status_code == 422


async def test_a_thread_of_a_graph_that_is_unknown_here_shows_what_it_holds(client, forms_server):
    thread_id = await run_on_a_thread(client, "pair", input={"done": ["in"]})
    before = await client.threads.get_history(thread_id, limit=3)
    with psycopg.connect(forms_server.database_url, autocommit=True) as database:
        database.execute(
            "UPDATE threads SET metadata = metadata || %s WHERE thread_id = %s",
            ('{"graph_id": "gone"}', thread_id),
        )
    history = await client.threads.get_history(thread_id, limit=3)
    assert [one["values"] for one in history] == [one["values"] for one in before]
    assert [one["next"] for one in history] == [[]] * len(before)
    at = await client.threads.get_state(thread_id, checkpoint_id=before[1]["checkpoint_id"])
    assert at["values"] == {"done": ["in", "first"]}
