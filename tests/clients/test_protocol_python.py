"""The streaming protocol v3 with the unmodified Python clients: ``threads.stream``, RemoteGraph."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client

pytestmark = pytest.mark.acceptance

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}
#: Both transports of the events.
TRANSPORTS = ["sse", "websocket"]


async def parts_of(stream: Any) -> list[Any]:
    return [part async for part in stream]


@pytest.fixture
async def client(clients_server):
    async with get_client(url=clients_server.url) as opened:
        yield opened


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return request.param


async def test_output_is_the_state_after_the_run(client, transport):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="chat", transport=transport) as thread:
            started = await thread.run.start(input=HI)
            values = await thread.output
    assert [one["type"] for one in values["messages"]] == ["human", "ai"]
    run = await client.runs.get(thread.thread_id, started["run_id"])
    assert run["status"] == "success"


async def test_messages_come_token_by_token(client, transport):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="chat", transport=transport) as thread:
            await thread.run.start(input=HI)
            # The client reads on only while somebody asks it for the next message.
            reading = [
                asyncio.create_task(parts_of(message.text)) async for message in thread.messages
            ]
            texts = await asyncio.gather(*reading)
    assert texts == [["H", "i", " ", "y", "o"]]


async def test_values_come_step_by_step(client, transport):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="slow", transport=transport) as thread:
            await thread.run.start(input={"secs": 0.2})
            counts = [len(values.get("n") or []) async for values in thread.values]
    # What the thread holds when the client subscribes comes first, and may hold the input or not.
    assert counts[-1] == 3
    assert sorted(set(counts[1:])) == [0, 1, 2, 3]


async def test_a_question_is_answered(client, transport):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="hitl", transport=transport) as thread:
            await thread.run.start(input={"topic": "v3"})
            while not thread.interrupted:
                await asyncio.sleep(0.02)
            (asked,) = thread.interrupts
            assert asked["value"] == {"question": "approve v3?"}
            assert asked["namespace"] == []
            await thread.run.respond("ok")
            values = await thread.output
    assert values["log"] == ["asked", "done:ok"]


async def test_a_question_of_a_subgraph_names_the_subgraph(client):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="nested_hitl") as thread:
            await thread.run.start(input={"topic": "v3"})
            while not thread.interrupted:
                await asyncio.sleep(0.02)
            (asked,) = thread.interrupts
            assert [one.partition(":")[0] for one in asked["namespace"]] == ["child"]
            await thread.run.respond("fine")
            assert (await thread.output)["answer"] == "fine"


async def test_a_failure_has_its_reason(client, transport):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="boom", transport=transport) as thread:
            await thread.run.start(input={"topic": "v3"})
            with pytest.raises(RuntimeError, match="Run errored: ValueError: kaboom in node"):
                await thread.output


async def test_subgraphs_are_found_with_their_messages(client):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="nested") as thread:
            await thread.run.start(input=HI)
            (child,) = [child async for child in thread.subgraphs]
            (message,) = [message async for message in child.messages]
            assert await message.text == "ab"
    assert (child.graph_name, child.status) == ("child", "completed")


async def test_tool_calls_have_their_output(client):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="tooler") as thread:
            await thread.run.start(input=HI)
            calls = [call async for call in thread.tool_calls]
            (call,) = calls
            assert (call.name, call.input) == ("add", {"a": 2, "b": 3})
            assert (await call.output)["content"] == "5"


async def test_all_events_have_rising_numbers_and_ids_of_their_own(client):
    async with asyncio.timeout(20):
        async with client.threads.stream(assistant_id="slow") as thread:
            await thread.run.start(input={"secs": 0.01})
            events = []
            async for event in thread.events:
                events.append(event)
                if event["params"]["data"].get("event") == "completed":
                    break
    assert {event["method"] for event in events} == {
        "lifecycle",
        "values",
        "updates",
        "custom",
        "checkpoints",
        "tasks",
    }
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
    assert len({event["event_id"] for event in events}) == len(events)
    updates = [one["params"]["data"] for one in events if one["method"] == "updates"]
    assert updates[0] == {"node": "s0", "values": {"n": [0]}}


def test_the_synchronous_client(clients_server):
    with (
        get_sync_client(url=clients_server.url) as client,
        client.threads.stream(assistant_id="chat") as thread,
    ):
        thread.run.start(input=HI)
        assert thread.output["messages"][-1]["content"][0]["text"] == "Hi yo"


def configured() -> Any:
    return {"configurable": {"thread_id": str(uuid4())}}


async def test_a_remote_graph_is_streamed_turn_by_turn(client):
    remote = RemoteGraph("chat", client=client)
    config = configured()
    async with asyncio.timeout(30):
        for turn in range(1, 4):
            async with await remote.astream_events(HI, config, version="v3") as run:
                output = await run.output()
            assert len(output["messages"]) == 2 * turn


async def test_a_remote_graph_is_resumed(client):
    remote = RemoteGraph("hitl", client=client)
    config = configured()
    async with asyncio.timeout(30):
        async with await remote.astream_events({"topic": "v3"}, config, version="v3") as run:
            while not await run.interrupted():
                await asyncio.sleep(0.02)
        async with await remote.astream_events(Command(resume="ok"), config, version="v3") as run:
            output = await run.output()
    assert output["log"] == ["asked", "done:ok"]


def test_a_remote_graph_is_interleaved(clients_server):
    with get_sync_client(url=clients_server.url) as client:
        remote = RemoteGraph("chat", sync_client=client)
        with remote.stream_events(HI, configured(), version="v3") as run:
            told = [name for name, _ in run.interleave("values", "messages")]
    assert told == ["values", "messages", "values"]
