"""A database moves between our savers and upstream's, in either direction and at any moment."""

from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from headrace.graphs.chat import build_chat
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver
from tests.support.saver_calls import plain

CONFIG = {"configurable": {"thread_id": "t", "user_id": None}}


def asking(saver):
    """Whole lists of messages, a subgraph, a question to the user, and two branches at once."""

    async def ask(state: MessagesState):
        return {"messages": [HumanMessage(interrupt("and you?"))]}

    async def left(state: MessagesState):
        return {"messages": [AIMessage(f"left {len(state['messages'])}")]}

    async def right(state: MessagesState):
        return {"messages": [AIMessage(f"right {len(state['messages'])}")]}

    inner = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner).add_node("left", left).add_node("right", right)
    builder.add_edge(START, "inner").add_edge("inner", "left").add_edge("inner", "right")
    return builder.compile(checkpointer=saver)


def chat(saver):
    """Messages stored by what each step adds."""
    return build_chat("").compile(checkpointer=saver, store=InMemoryStore())


async def say(graph, text):
    await graph.ainvoke({"messages": [("user", text)]}, CONFIG)


async def resume(graph):
    await graph.ainvoke(Command(resume="fine"), CONFIG)


async def stop_before(graph, text):
    await graph.ainvoke({"messages": [("user", text)]}, CONFIG, interrupt_before="*")


async def go_on(graph):
    await graph.ainvoke(None, CONFIG)


async def at_the_end(graph, text):
    await graph.ainvoke({"messages": [("user", text)]}, CONFIG, durability="exit")


async def remove_first(graph):
    first, *_ = (await graph.aget_state(CONFIG)).values["messages"]
    await graph.aupdate_state(CONFIG, {"messages": [RemoveMessage(id=first.id)]})


async def fork(graph):
    *_, third, _, _ = [one async for one in graph.aget_state_history(CONFIG)]
    await graph.aupdate_state(third.config, {"messages": [HumanMessage("instead")]})


STEPS: dict[Any, list[tuple[Any, ...]]] = {
    asking: [
        (say, "one"),
        (resume,),
        (say, "two"),
        (remove_first,),
        (resume,),
        (fork,),
        (say, "three"),
        (resume,),
    ],
    chat: [
        (say, "one"),
        (say, "two"),
        (stop_before, "three"),
        (go_on,),
        (remove_first,),
        (at_the_end, "four"),
        (fork,),
        (say, "five"),
        (at_the_end, "six"),
        (say, "seven"),
    ],
}


@asynccontextmanager
async def both(url, engine):
    """One of ours and upstream's on the same database."""
    async with (
        open_pool(url) as pool,
        open_saver(pool, engine=engine) as ours,
        AsyncPostgresSaver.from_conn_string(url) as upstreams,
    ):
        yield ours, upstreams


async def all_there_is(saver, graph):
    """What the saver holds, and what the graph makes of it."""
    states = [
        (plain(one.values), one.next, plain(one.tasks), plain(one.config), plain(one.metadata))
        async for one in graph.aget_state_history(CONFIG)
    ]
    rows = [plain(one) async for one in saver.alist({"configurable": {"thread_id": "t"}})]
    return states, rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", ["ours", "upstreams"])
@pytest.mark.parametrize("build", list(STEPS))
async def test_each_goes_on_where_the_other_stopped(build, first, engine, database_url):
    async with both(database_url, engine) as savers:
        graphs = [build(saver) for saver in savers]
        turn = ("ours", "upstreams").index(first)
        for act, *arguments in STEPS[build]:
            await act(graphs[turn % 2], *arguments)
            turn += 1
            ours, upstreams = [
                await all_there_is(saver, graph)
                for saver, graph in zip(savers, graphs, strict=True)
            ]
            assert ours == upstreams
        states, _ = ours
        assert len(states) > 10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("build", list(STEPS))
async def test_both_write_the_same_of_a_life(build, engine, database_url, second_database_url):
    """Each in a database of its own; ids and times apart, which are never the same."""
    told = []
    for url, which in ((database_url, 0), (second_database_url, 1)):
        async with both(url, engine) as savers:
            graph = build(savers[which])
            for act, *arguments in STEPS[build]:
                await act(graph, *arguments)
            told.append(
                [
                    (
                        [(message.type, message.text) for message in one.values["messages"]],
                        one.next,
                        one.metadata,
                        [(task.name, task.error, len(task.interrupts)) for task in one.tasks],
                    )
                    async for one in graph.aget_state_history(CONFIG)
                ]
            )
    assert told[0] == told[1]
