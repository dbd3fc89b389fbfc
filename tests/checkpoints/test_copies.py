"""A copied thread is another one with the same past."""

import psycopg
import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore

from headrace.graphs.chat import build_chat
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


@pytest.fixture(params=ENGINES)
async def saver(request, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=request.param) as opened:
        yield opened


def config(thread_id, **more):
    return {"configurable": {"thread_id": thread_id, "user_id": None, **more}}


def chat(saver):
    return build_chat("").compile(checkpointer=saver, store=InMemoryStore())


def with_a_subgraph(saver):
    """Checkpoints in three namespaces."""

    async def reply(state: MessagesState):
        return {"messages": [("ai", f"{len(state['messages'])}")]}

    inner = StateGraph(MessagesState).add_node("reply", reply).add_edge(START, "reply")
    outer = StateGraph(MessagesState)
    outer.add_node("kept", inner.compile(checkpointer=True))
    outer.add_node("called", inner.compile())
    outer.add_edge(START, "kept").add_edge("kept", "called")
    return outer.compile(checkpointer=saver)


async def history(graph, thread_id):
    return [
        (one.config["configurable"]["checkpoint_id"], one.values, one.next, one.metadata)
        async for one in graph.aget_state_history(config(thread_id))
    ]


async def rows(url, thread_id):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = {}
        for table in TABLES:
            cursor = await connection.execute(
                f"SELECT to_jsonb(r) - 'thread_id' FROM {table} r WHERE thread_id = %s",
                (thread_id,),
            )
            found[table] = sorted(str(row) for row in await cursor.fetchall())
        return found


@pytest.mark.parametrize("build", [chat, with_a_subgraph])
async def test_the_copy_has_every_row(saver, database_url, build):
    graph = build(saver)
    for text in ("one", "two", "three"):
        await graph.ainvoke({"messages": [("user", text)]}, config("source"))
    await graph.ainvoke({"messages": [("user", "last")]}, config("source"), interrupt_before="*")
    source = await rows(database_url, "source")
    assert all(source[table] for table in ("checkpoints", "checkpoint_writes"))
    await saver.acopy_thread("source", "copy")
    assert await rows(database_url, "copy") == source == await rows(database_url, "source")
    assert await history(graph, "copy") == await history(graph, "source")


async def test_each_goes_its_own_way(saver):
    graph = chat(saver)
    for text in ("one", "two"):
        await graph.ainvoke({"messages": [("user", text)]}, config("source"))
    await graph.ainvoke({"messages": [("user", "three")]}, config("source"), interrupt_before="*")
    await saver.acopy_thread("source", "copy")
    source = await history(graph, "source")
    resumed = await graph.ainvoke(None, config("copy"))
    assert resumed["messages"][:-1] == source[0][1]["messages"]
    await graph.aupdate_state(
        config("copy", checkpoint_id=source[5][0]), {"messages": [HumanMessage("instead")]}
    )
    assert await history(graph, "source") == source
    await saver.adelete_thread("source")
    state = await graph.aget_state(config("copy"))
    assert state.values["messages"][:-1] == source[5][1]["messages"]


async def test_copying_again_changes_nothing(saver, database_url):
    graph = chat(saver)
    await graph.ainvoke({"messages": [("user", "one")]}, config("source"))
    await saver.acopy_thread("source", "copy")
    await graph.ainvoke({"messages": [("user", "two")]}, config("copy"))
    copy = await rows(database_url, "copy")
    await saver.acopy_thread("source", "copy")
    await saver.acopy_thread("copy", "copy")
    assert await rows(database_url, "copy") == copy
    await saver.acopy_thread("nowhere", "nothing")
    assert await saver.aget_tuple(config("nothing")) is None
