"""langgraph-sdk, unmodified, against two server processes."""

import asyncio
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import (
    ConflictError,
    NotFoundError,
    UnprocessableEntityError,
)

from headrace.ids import system_assistant_id, uuid7

pytestmark = pytest.mark.acceptance

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def client(module_server):
    async with get_client(url=module_server.url) as opened:
        yield opened


async def test_a_thread_is_created_read_and_run(client):
    thread = await client.threads.create(metadata={"who": "ada"})
    assert thread["status"] == "idle"
    assert thread["values"] is None
    values = await client.runs.wait(thread["thread_id"], "agent", input=HELLO)
    assert [message["content"] for message in values["messages"]] == ["hi", "message 1"]
    read = await client.threads.get(thread["thread_id"])
    assert read["values"] == values
    assert read["metadata"] == {
        "who": "ada",
        "graph_id": "agent",
        "assistant_id": str(system_assistant_id("agent")),
    }
    assert (read["status"], read["error"], read["interrupts"]) == ("idle", None, {})
    state = await client.threads.get_state(thread["thread_id"])
    assert state["values"] == values
    assert state["next"] == []
    assert state["checkpoint"]["thread_id"] == thread["thread_id"]
    assert state["metadata"]["graph_id"] == "agent"


async def test_an_empty_threads_state_is_empty(client):
    thread = await client.threads.create()
    state = await client.threads.get_state(thread["thread_id"])
    assert state == {
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


async def test_a_conversation_goes_on_from_run_to_run(client):
    thread = await client.threads.create()
    for expected in ("message 1", "message 3", "message 5"):
        values = await client.runs.wait(thread["thread_id"], "agent", input=HELLO)
        assert values["messages"][-1]["content"] == expected


async def events(stream) -> list[tuple[str, Any]]:
    return [(part.event, part.data) async for part in stream]


@pytest.mark.parametrize(
    ("graph", "mode", "names"),
    [
        ("tokens", "values", ["values", "values"]),
        ("tokens", "updates", ["updates"]),
        ("tokens", "messages", ["messages/metadata"] + ["messages/partial"] * 5),
        ("tokens", "messages-tuple", ["messages"] * 5),
        ("slow", "custom", ["custom"] * 3),
        ("tokens", ["updates", "values"], ["values", "updates", "values"]),
    ],
)
async def test_each_stream_mode(client, graph, mode, names):
    thread = await client.threads.create()
    body = {"seconds": 0.0} if graph == "slow" else HELLO
    got = await events(client.runs.stream(thread["thread_id"], graph, input=body, stream_mode=mode))
    assert [name for name, _ in got] == ["metadata", *names, "end"]
    run_id = got[0][1]["run_id"]
    assert got[-1][1] == {"run_id": run_id, "status": "success"}
    run = await client.runs.get(thread["thread_id"], run_id)
    assert run["status"] == "success"


async def test_tokens_arrive_as_chunks_with_their_metadata(client):
    thread = await client.threads.create()
    got = await events(
        client.runs.stream(thread["thread_id"], "tokens", input=HELLO, stream_mode="messages-tuple")
    )
    chunks = [data for name, data in got if name == "messages"]
    assert "".join(chunk["content"] for chunk, _ in chunks) == "Hi yo"
    assert chunks[0][0]["type"] == "AIMessageChunk"
    assert chunks[0][1]["langgraph_node"] == "model"
    assert chunks[0][1]["thread_id"] == thread["thread_id"]


async def test_stateless_runs_leave_no_thread(client):
    values = await client.runs.wait(None, "agent", input=HELLO)
    assert values["messages"][-1]["content"] == "message 1"
    seen: list[dict[str, str]] = []
    got = [
        part
        async for part in client.runs.stream(
            None, "agent", input=HELLO, on_run_created=lambda made: seen.append(dict(made))
        )
    ]
    assert [part.event for part in got] == ["metadata", "values", "values", "end"]
    with pytest.raises(NotFoundError):
        await client.threads.get(seen[0]["thread_id"])


async def test_a_stateless_run_may_keep_its_thread(client):
    seen: list[dict[str, str]] = []
    await client.runs.wait(
        None,
        "agent",
        input=HELLO,
        on_completion="keep",
        on_run_created=lambda made: seen.append(dict(made)),
    )
    thread = await client.threads.get(seen[0]["thread_id"])
    assert thread["values"]["messages"][-1]["content"] == "message 1"


async def test_runs_are_listed_newest_first(client):
    thread = await client.threads.create()
    for _ in range(3):
        await client.runs.wait(thread["thread_id"], "agent", input=HELLO, metadata={"mine": 1})
    runs = await client.runs.list(thread["thread_id"], limit=2)
    assert [run["status"] for run in runs] == ["success", "success"]
    assert runs[0]["created_at"] > runs[1]["created_at"]
    assert runs[0]["metadata"]["mine"] == 1
    assert runs[0]["kwargs"]["input"] == HELLO
    rest = await client.runs.list(thread["thread_id"], limit=2, offset=2)
    assert len(rest) == 1
    assert await client.runs.list(thread["thread_id"], status="error") == []


async def test_an_error_in_a_node_ends_run_and_thread_as_error(client):
    thread = await client.threads.create()
    with pytest.raises(Exception, match="kaboom in node"):
        await client.runs.wait(thread["thread_id"], "boom", input={"topic": "x"})
    read = await client.threads.get(thread["thread_id"])
    assert read["status"] == "error"
    assert read["error"] == {"error": "ValueError", "message": "kaboom in node"}
    state = await client.threads.get_state(thread["thread_id"])
    assert state["next"] == ["boom"]
    assert state["tasks"][0]["error"] == "ValueError('kaboom in node')"
    got = await events(client.runs.stream(thread["thread_id"], "boom", input={"topic": "x"}))
    assert got[-1] == ("error", {"error": "ValueError", "message": "kaboom in node"})


async def test_an_interrupt_waits_on_the_thread_and_is_answered(client):
    thread = await client.threads.create()
    values = await client.runs.wait(thread["thread_id"], "hitl", input={"topic": "tea"})
    (waiting,) = values["__interrupt__"]
    assert waiting["value"] == {"question": "approve tea?"}
    read = await client.threads.get(thread["thread_id"])
    assert read["status"] == "interrupted"
    assert [one["id"] for task in read["interrupts"].values() for one in task] == [waiting["id"]]
    (run,) = await client.runs.list(thread["thread_id"])
    assert run["status"] == "success"
    resumed = await client.runs.wait(thread["thread_id"], "hitl", command={"resume": "yes"})
    assert resumed["answer"] == "yes"
    read = await client.threads.get(thread["thread_id"])
    assert (read["status"], read["interrupts"]) == ("idle", {})


async def test_interrupt_before_stops_ahead_of_a_node_and_a_run_without_input_goes_on(client):
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "agent", input=HELLO, interrupt_before=["reply"])
    read = await client.threads.get(thread["thread_id"])
    assert read["status"] == "interrupted"
    assert (await client.threads.get_state(thread["thread_id"]))["next"] == ["reply"]
    values = await client.runs.wait(thread["thread_id"], "agent")
    assert values["messages"][-1]["content"] == "message 1"


async def test_a_second_run_on_a_busy_thread_waits_or_is_a_conflict(client):
    thread = await client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"], "slow", input={"seconds": 0.3}, stream_mode="custom"
    )
    assert (await anext(stream)).event == "metadata"
    assert (await client.threads.get(thread["thread_id"]))["status"] == "busy"
    # runs.wait raises what httpx raises, not the SDK's own classes.
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await client.runs.wait(
            thread["thread_id"], "slow", input={"seconds": 0}, multitask_strategy="reject"
        )
    assert refused.value.response.status_code == 409
    with pytest.raises(ConflictError, match="already running"):
        await anext(
            client.runs.stream(
                thread["thread_id"], "slow", input={"seconds": 0}, multitask_strategy="reject"
            )
        )
    values = await client.runs.wait(thread["thread_id"], "slow", input={"seconds": 0})
    assert values["done"] == [0, 1, 2] * 2
    assert [part.event async for part in stream][-1] == "end"


async def test_threads_exist_once(client):
    thread_id = str(uuid7())
    await client.threads.create(thread_id=thread_id)
    with pytest.raises(ConflictError, match="already exists"):
        await client.threads.create(thread_id=thread_id)
    again = await client.threads.create(thread_id=thread_id, if_exists="do_nothing")
    assert again["thread_id"] == thread_id


async def test_if_not_exists_creates_the_thread(client):
    thread_id = str(uuid7())
    with pytest.raises(NotFoundError):
        await anext(client.runs.stream(thread_id, "agent", input=HELLO))
    await client.runs.wait(thread_id, "agent", input=HELLO, if_not_exists="create")
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_thread_that_a_run_makes_is_found_by_the_metadata_of_the_run(client):
    assistant = await client.assistants.create("agent", metadata={"of": "assistant"})
    mark, thread_id = str(uuid7()), str(uuid7())
    given: dict[str, Any] = {
        "input": HELLO,
        "metadata": {"mark": mark, "graph_id": "x"},
        "config": {"metadata": {"told": 1}},
    }
    name = assistant["assistant_id"]
    await client.runs.wait(thread_id, name, **given, if_not_exists="create")
    kept = await client.runs.create(None, name, **given, on_completion="keep")
    later = await client.runs.create(None, name, **given, on_completion="keep", after_seconds=60)
    found = await client.threads.search(metadata={"mark": mark})
    made = {thread_id, kept["thread_id"], later["thread_id"]}
    assert {one["thread_id"] for one in found} == made
    wanted = {"mark": mark, "told": 1, "graph_id": "agent", "assistant_id": name}
    assert all(one["metadata"] == wanted for one in found)
    await client.runs.wait(thread_id, name, input=HELLO, metadata={"of": "a later run"})
    assert (await client.threads.get(thread_id))["metadata"] == wanted
    await client.assistants.delete(name)


async def test_assistants_are_there_from_the_start(client):
    found = await client.assistants.search(graph_id="agent")
    assert [one["assistant_id"] for one in found] == [str(system_assistant_id("agent"))]
    assert found[0]["metadata"] == {"created_by": "system"}
    assert (await client.assistants.get(found[0]["assistant_id"]))["name"] == "agent"
    values = await client.runs.wait(None, found[0]["assistant_id"], input=HELLO)
    assert values["messages"][-1]["content"] == "message 1"
    page = await client.assistants.search(limit=2, response_format="object")
    assert (len(page["assistants"]), page["next"]) == (2, "2")


async def test_what_is_unknown_is_the_sdks_typed_error(client):
    with pytest.raises(NotFoundError):
        await client.threads.get(str(uuid7()))
    with pytest.raises(NotFoundError):
        await client.assistants.get(str(uuid7()))
    thread = await client.threads.create()
    with pytest.raises(NotFoundError):
        await client.runs.get(thread["thread_id"], str(uuid7()))
    with pytest.raises(UnprocessableEntityError, match=r"one of the graphs: agent"):
        await anext(client.runs.stream(thread["thread_id"], "nope", input={}))
    with pytest.raises(UnprocessableEntityError, match="stream_mode"):
        await anext(client.runs.stream(thread["thread_id"], "agent", input={}, stream_mode="weird"))


async def test_a_client_that_leaves_stops_its_run_only_if_it_said_so(client):
    for policy, status in (("cancel", "interrupted"), ("continue", "success")):
        thread = await client.threads.create()
        stream = client.runs.stream(
            thread["thread_id"],
            "slow",
            input={"seconds": 0.3},
            stream_mode="custom",
            on_disconnect=policy,
        )
        run_id = (await anext(stream)).data["run_id"]
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(10):
            while (run := await client.runs.get(thread["thread_id"], run_id))["status"] in (
                "pending",
                "running",
            ):
                await asyncio.sleep(0.05)
        assert run["status"] == status, policy
        read = await client.threads.get(thread["thread_id"])
        assert read["status"] == ("interrupted" if policy == "cancel" else "idle")
