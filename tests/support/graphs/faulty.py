"""Graphs whose runs end badly, one for each way."""

import asyncio
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from headrace.errors import TokenBudgetExceeded


class State(TypedDict, total=False):
    seconds: float
    text: str


def one(node: Any, then: Any = None) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("first", node)
    builder.add_edge(START, "first")
    if then is not None:
        builder.add_node("then", then)
        builder.add_edge("first", "then")
    builder.add_edge("then" if then is not None else "first", END)
    return builder


async def work(state: State) -> State:
    await asyncio.sleep(state.get("seconds", 0.0))
    return {"text": "done"}


async def explode(state: State) -> State:
    raise ValueError("kaboom")


async def spend(state: State) -> State:
    raise TokenBudgetExceeded("1000 tokens are used")


async def hear_nothing(state: State) -> State:
    """A cancel has no effect for so many seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + state.get("seconds", 0.0)
    while loop.time() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
    return {}


def make_none(config: RunnableConfig) -> StateGraph[Any, Any, Any, Any]:
    """It can be made without a run, as at start, but not for one."""
    if config.get("configurable", {}).get("thread_id"):
        raise ConnectionError("no settings for this graph")
    return one(work)


async def cancel_all(state: State) -> State:
    for task in asyncio.all_tasks():
        if task.get_name().startswith(("run-", "graph-")):
            task.cancel()
    await asyncio.sleep(0.05)
    return {}


GRAPHS: dict[str, Any] = {
    "works": one(work),
    "two_steps": one(work, work),
    "explodes": one(explode),
    "spends": one(spend),
    "hears_nothing": one(hear_nothing),
    "unmade": make_none,
    "cancels_all": one(cancel_all),
}
