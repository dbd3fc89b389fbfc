"""RemoteGraph: a graph of the server as a graph of one's own, and as a node of one."""

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client

from headrace.ids import uuid7

pytestmark = pytest.mark.acceptance

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}


def configured() -> dict[str, Any]:
    return {"configurable": {"thread_id": str(uuid7())}}


@pytest.fixture
async def remote(clients_server):
    async with get_client(url=clients_server.url) as client:
        with get_sync_client(url=clients_server.url) as sync_client:
            yield RemoteGraph("chat", client=client, sync_client=sync_client)


async def test_it_is_invoked_and_streamed(remote):
    config = configured()
    values = await remote.ainvoke(HI, config)
    assert values["messages"][-1]["content"] == "Hi yo"
    modes = [
        part.event async for part in remote.astream(HI, config, stream_mode=["values", "updates"])
    ]
    assert modes == ["values", "updates", "values"]
    tokens = [
        chunk["content"]
        async for chunk, _ in remote.astream(HI, config, stream_mode="messages")
        if chunk["type"] == "AIMessageChunk"
    ]
    assert "".join(tokens) == "Hi yo"


async def test_its_state_is_read_and_written(remote):
    config = configured()
    await remote.ainvoke(HI, config)
    state = await remote.aget_state(config)
    assert [message["type"] for message in state.values["messages"]] == ["human", "ai"]
    history = [state async for state in remote.aget_state_history(config, limit=10)]
    assert [state.next for state in history] == [(), ("model",), ("__start__",)]
    older = await remote.aget_state(history[1].config)
    assert older.next == ("model",)
    edited = await remote.aupdate_state(
        config, {"messages": [{"role": "user", "content": "edited"}]}, as_node="__start__"
    )
    assert edited["configurable"]["thread_id"] == config["configurable"]["thread_id"]
    state = await remote.aget_state(config)
    assert state.values["messages"][-1]["content"] == "edited"
    assert state.next == ("model",)


async def test_it_draws_itself(remote):
    graph = await remote.aget_graph(xray=True)
    assert set(graph.nodes) == {"__start__", "model", "__end__"}


@pytest.mark.parametrize("saver", [None, InMemorySaver()], ids=["without", "with"])
async def test_it_is_a_node_of_a_graph_of_ones_own(remote, saver):
    builder = StateGraph(MessagesState)
    builder.add_node("there", remote)
    builder.add_edge(START, "there")
    graph: Any = builder.compile(checkpointer=saver)
    config = configured()
    values = await graph.ainvoke(HI, config)
    assert [message.content for message in values["messages"]] == ["hi", "Hi yo"]
    told = [
        (namespace, mode)
        async for namespace, mode, _ in graph.astream(
            HI, config, stream_mode=["updates"], subgraphs=True
        )
    ]
    assert ((), "updates") in told
    assert any(namespace and namespace[0].startswith("there:") for namespace, _ in told)


async def test_the_sync_form(remote):
    await asyncio.to_thread(_in_sync_form, remote, configured())


def _in_sync_form(remote: RemoteGraph, config: Any) -> None:
    assert remote.invoke(HI, config)["messages"][-1]["content"] == "Hi yo"
    assert list(remote.stream(HI, config, stream_mode="values"))
    assert remote.get_state(config).next == ()
    assert len(list(remote.get_state_history(config, limit=2))) == 2
    remote.update_state(config, {"messages": []}, as_node="model")
