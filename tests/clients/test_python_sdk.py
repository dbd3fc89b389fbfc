"""langgraph-sdk, unmodified: every public method of its async clients, none forgotten."""

import asyncio
import inspect
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import NotFoundError

from headrace.ids import uuid7

pytestmark = pytest.mark.acceptance

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}

#: Has a module of tests of its own.
_ELSEWHERE = {"threads.stream"}

#: Filled by the tests of this module as their calls are made; the last test reads it.
_called: set[str] = set()

_ROOMS = ("assistants", "threads", "runs", "crons", "store")


class Noting:
    """A room of the client that notes which of its methods were called."""

    def __init__(self, name: str, room: Any) -> None:
        self._name = name
        self._room = room

    def __getattr__(self, method: str) -> Any:
        _called.add(f"{self._name}.{method}")
        return getattr(self._room, method)


class Rooms:
    def __init__(self, client: Any) -> None:
        self.assistants, self.threads, self.runs, self.crons, self.store = (
            Noting(name, getattr(client, name)) for name in _ROOMS
        )


@pytest.fixture
async def client(clients_server):
    async with get_client(url=clients_server.url) as opened:
        yield Rooms(opened)


async def parts_of(stream: Any) -> list[Any]:
    return [part async for part in stream]


async def assistants_are_kept(client):
    mark = {"mark": uuid4().hex}
    made = await client.assistants.create(
        "ctx", context={"model_name": "a"}, metadata=mark, name="mine", description="for tests"
    )
    key = made["assistant_id"]
    assert made["config"]["configurable"] == {"model_name": "a"}
    changed = await client.assistants.update(key, context={"model_name": "b"}, name="renamed")
    assert (changed["version"], changed["context"]) == (2, {"model_name": "b"})
    versions = await client.assistants.get_versions(key)
    assert [one["version"] for one in versions] == [2, 1]
    assert (await client.assistants.set_latest(key, 1))["name"] == "mine"
    assert (await client.assistants.get(key))["version"] == 1
    page = await client.assistants.search(metadata=mark, response_format="object")
    assert ([one["assistant_id"] for one in page["assistants"]], page["next"]) == ([key], None)
    assert await client.assistants.count(metadata=mark, graph_id="ctx") == 1
    await client.assistants.delete(key)
    with pytest.raises(NotFoundError):
        await client.assistants.get(key)


async def graphs_are_described(client):
    graph = await client.assistants.get_graph("nested", xray=True)
    assert "child:inner" in {node["id"] for node in graph["nodes"]}
    schemas = await client.assistants.get_schemas("ctx")
    assert "model_name" in schemas["context_schema"]["properties"]
    assert set(await client.assistants.get_subgraphs("nested", recurse=True)) == {"child"}


async def threads_are_kept(client):
    mark = {"mark": uuid4().hex}
    thread = await client.threads.create(metadata=mark, graph_id="agent", ttl=60)
    key = thread["thread_id"]
    assert thread["metadata"] == {**mark, "graph_id": "agent"}
    assert (await client.threads.get(key, include=["ttl"]))["ttl"]["ttl_minutes"] == 60
    await client.threads.update(key, metadata={"more": 1})
    assert await client.threads.update(key, metadata={"more": 2}, return_minimal=True) is None
    await client.runs.wait(key, "agent", input=HI)
    (found,) = await client.threads.search(
        metadata=mark,
        values={},
        status="idle",
        select=["thread_id", "metadata"],
        extract={"last": "values.messages[-1].type"},
    )
    assert found["extracted"] == {"last": "ai"}
    assert found["metadata"]["more"] == 2
    assert await client.threads.count(metadata=mark) == 1
    await client.threads.copy(key)
    copies = await client.threads.search(metadata=mark, sort_by="created_at", sort_order="desc")
    assert len(copies) == 2
    copy = copies[0]["thread_id"]
    state = await client.threads.get_state(copy)
    assert [message["type"] for message in state["values"]["messages"]] == ["human", "ai"]
    assert await client.threads.prune([copy]) == {"pruned_count": 1}
    await client.threads.delete(key)
    assert await client.threads.count(metadata=mark) == 0


async def a_thread_can_be_made_of_supersteps(client):
    update = {"values": HI, "as_node": "__start__"}
    made = await client.threads.create(
        graph_id="agent", supersteps=[{"updates": [update]}], thread_id=str(uuid7())
    )
    state = await client.threads.get_state(made["thread_id"])
    assert state["next"] == ["reply"]


async def states_are_read_and_written(client):
    key = (await client.threads.create())["thread_id"]
    await client.runs.wait(key, "agent", input=HI)
    history = await client.threads.get_history(key, limit=10)
    assert [state["next"] for state in history] == [[], ["reply"], ["__start__"]]
    middle = history[1]["checkpoint"]
    by_id = await client.threads.get_state(key, checkpoint_id=middle["checkpoint_id"])
    by_place = await client.threads.get_state(key, checkpoint=middle, subgraphs=True)
    assert by_id["next"] == by_place["next"] == ["reply"]
    older = await client.threads.get_history(key, before=middle["checkpoint_id"])
    assert [state["next"] for state in older] == [["__start__"]]
    edited = await client.threads.update_state(
        key, {"messages": [{"role": "user", "content": "edited"}]}, as_node="__start__"
    )
    now = await client.threads.get_state(key)
    assert now["checkpoint"]["checkpoint_id"] == edited["checkpoint"]["checkpoint_id"]
    assert now["values"]["messages"][-1]["content"] == "edited"
    forked = await client.threads.update_state(
        key, {"messages": []}, checkpoint_id=middle["checkpoint_id"]
    )
    assert forked["checkpoint"]["checkpoint_id"] != middle["checkpoint_id"]


async def runs_are_followed(client):
    key = (await client.threads.create())["thread_id"]
    told = await parts_of(
        client.runs.stream(
            key, "slow", input={"secs": 0.01}, stream_mode=["values", "custom"],
            stream_resumable=True,
        )
    )  # fmt: skip
    run_id = told[0].data["run_id"]
    again = await parts_of(client.runs.join_stream(key, run_id, last_event_id="-1"))
    assert again == told
    customs = client.runs.join_stream(key, run_id, last_event_id="-1", stream_mode="custom")
    assert [part.event for part in await parts_of(customs)] == ["custom"] * 3 + ["end"]
    assert (await client.runs.join(key, run_id))["n"] == [0, 1, 2]
    (run,) = await client.runs.list(key, status="success", select=["run_id", "status"])
    assert run == {"run_id": run_id, "status": "success"}
    second = [part async for part in client.runs.stream(key, "chat", input=HI, version="v2")]
    assert second[0]["type"] == "metadata"
    assert second[-1]["type"] == "values"


async def runs_are_stopped_and_deleted(client):
    key = (await client.threads.create())["thread_id"]
    run = await client.runs.create(key, "slow", input={"secs": 30})
    await client.runs.cancel(key, run["run_id"], wait=True)
    assert (await client.runs.get(key, run["run_id"]))["status"] == "interrupted"
    await client.runs.delete(key, run["run_id"])
    later = await client.runs.create(key, "slow", input={}, after_seconds=3600)
    await client.runs.cancel_many(thread_id=key, run_ids=[later["run_id"]])
    assert (await client.runs.get(key, later["run_id"]))["status"] == "interrupted"
    with pytest.raises(NotFoundError):
        await client.runs.cancel_many(thread_id=key, run_ids=[later["run_id"]])


async def runs_are_made_in_a_batch(client):
    batch = await client.runs.create_batch(
        [{"assistant_id": graph, "input": HI} for graph in ("agent", "chat")]
    )
    assert [run["metadata"]["graph_id"] for run in batch] == ["agent", "chat"]


async def a_person_is_asked(client):
    key = (await client.threads.create())["thread_id"]
    values = await client.runs.wait(key, "hitl", input={"topic": "tea"})
    (asked,) = values["__interrupt__"]
    resume = {"resume": {asked["id"]: "yes"}}
    assert (await client.runs.wait(key, "hitl", command=resume))["log"] == ["asked", "done:yes"]


async def a_threads_runs_are_followed_as_they_come(client):
    key = (await client.threads.create())["thread_id"]
    stream = await client.threads.join_stream(key, stream_mode="run_modes")
    follower = asyncio.ensure_future(anext(stream))
    told: list[Any] = []
    async with asyncio.timeout(20):
        while not follower.done():
            # Nothing says that the stream is open: a run that came too early is not told.
            await client.runs.wait(key, "agent", input=HI)
        part = await follower
        # The stream may have opened in the midst of a run: only the next one is told whole.
        await client.runs.wait(key, "agent", input=HI)
        while "status" not in part.data:
            part = await anext(stream)
        while not told or "status" not in told[-1].data:
            told.append(await anext(stream))
    await stream.aclose()
    assert [part.event for part in told] == ["metadata", "values", "values", "metadata"]
    assert told[-1].data["status"] == "run_done"


async def crons_are_kept(client):
    mark = {"mark": uuid4().hex}
    key = (await client.threads.create())["thread_id"]
    berlin = ZoneInfo("Europe/Berlin")
    cron = await client.crons.create(
        "agent", schedule="0 5 * * *", input=HI, metadata=mark, timezone=berlin,
        end_time=datetime(2999, 1, 1, tzinfo=UTC), on_run_completed="keep", stream_mode=["values"],
        multitask_strategy="enqueue", config={"tags": ["t"]}, durability="async",
    )  # fmt: skip
    assert (cron["timezone"], cron["thread_id"]) == ("Europe/Berlin", None)
    bound = await client.crons.create_for_thread(
        key, "agent", schedule="*/5 * * * *", input=HI, metadata=mark, enabled=False
    )
    assert (bound["thread_id"], bound["on_run_completed"]) == (key, None)
    changed = await client.crons.update(cron["cron_id"], end_time=None, schedule="0 6 * * *")
    assert (changed["end_time"], changed["schedule"]) == (None, "0 6 * * *")
    assert changed["payload"]["input"] == HI
    found = await client.crons.search(
        metadata=mark, enabled=True, sort_by="next_run_date", sort_order="asc", select=["cron_id"]
    )
    assert found == [{"cron_id": cron["cron_id"]}]
    assert await client.crons.count(metadata=mark, thread_id=key) == 1
    await client.crons.delete(cron["cron_id"])
    with pytest.raises(NotFoundError):
        await client.crons.delete(cron["cron_id"])
    await client.threads.delete(key)
    assert await client.crons.count(metadata=mark) == 0


async def items_are_stored(client):
    space = ("sdk", uuid4().hex)
    await client.store.put_item(space, "k", {"n": 1}, index=False, ttl=60)
    assert (await client.store.get_item(space, "k", refresh_ttl=True))["value"] == {"n": 1}
    found = await client.store.search_items(space, filter={"n": 1})
    assert [item["key"] for item in found["items"]] == ["k"]
    spaces = await client.store.list_namespaces(prefix=list(space), max_depth=2)
    assert spaces == {"namespaces": [list(space)]}
    await client.store.delete_item(space, "k")
    assert await client.store.get_item(space, "k") is None


_PARTS = [
    assistants_are_kept,
    graphs_are_described,
    threads_are_kept,
    a_thread_can_be_made_of_supersteps,
    states_are_read_and_written,
    runs_are_followed,
    runs_are_stopped_and_deleted,
    runs_are_made_in_a_batch,
    a_person_is_asked,
    a_threads_runs_are_followed_as_they_come,
    crons_are_kept,
    items_are_stored,
]


async def test_every_method_of_the_async_clients(client):
    """One test, so that whatever runs it sees all calls."""
    for part in _PARTS:
        await part(client)
    raw = get_client(url="http://unused")
    public = {
        f"{room}.{name}"
        for room in _ROOMS
        for name, _ in inspect.getmembers(type(getattr(raw, room)), callable)
        if not name.startswith("_")
    }
    assert public - _called == _ELSEWHERE


async def test_a_break_after_the_last_node_leaves_nothing_to_wait_for(client):
    for graph, given, status in (("agent", HI, "idle"), ("hitl", {"topic": "tea"}, "interrupted")):
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, graph, input=given, interrupt_after="*")
        assert (await client.threads.get(thread))["status"] == status


async def test_metadata_of_the_config_is_the_runs_too(client):
    thread = (await client.threads.create())["thread_id"]
    given = {"config": {"metadata": {"a": 1, "b": 1}}, "metadata": {"b": 2}}
    run = await client.runs.create(thread, "agent", input=HI, **given)
    await client.runs.join(thread, run["run_id"])
    state = await client.threads.get_state(thread)
    for metadata in (run["metadata"], state["metadata"]):
        assert (metadata["a"], metadata["b"]) == (1, 2)


def test_the_sync_client(clients_server):
    with get_sync_client(url=clients_server.url) as opened:
        client: Any = opened
        thread = client.threads.create()
        key = thread["thread_id"]
        assert client.runs.wait(key, "agent", input=HI)["messages"][0]["content"] == "hi"
        told = list(client.runs.stream(key, "chat", input=HI, stream_mode="updates"))
        assert [part.event for part in told] == ["metadata", "updates", "end"]
        assert len(client.threads.get_state(key)["values"]["messages"]) == 4
        assert client.assistants.search(graph_id="agent")[0]["graph_id"] == "agent"
        client.store.put_item(("sync",), "k", {"n": 1})
        assert client.store.get_item(("sync",), "k")["value"] == {"n": 1}
        client.threads.delete(key)
