"""Graphs whose steps and nodes can be counted and timed."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send, interrupt


class Done(TypedDict, total=False):
    done: Annotated[list[str], operator.add]
    seconds: float


def node(name: str, seconds: float, *, silent: bool = False) -> Any:
    async def work(state: Done) -> Done | None:
        await asyncio.sleep(seconds)
        return None if silent else {"done": [name]}

    return work


def chain(**seconds: float) -> StateGraph[Any, Any, Any, Any]:
    """Nodes after each other; a name that begins with ``silent`` changes nothing."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Done)
    before = START
    for name, took in seconds.items():
        builder.add_node(name, node(name, took, silent=name.startswith("silent")))
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder


def beside() -> StateGraph[Any, Any, Any, Any]:
    """``short`` and ``long`` beside each other, then ``worker`` twice by Send, then ``last``."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Done)
    for name, seconds in (("short", 0.02), ("long", 0.1), ("worker", 0.06), ("last", 0.01)):
        builder.add_node(name, node(name, seconds))
    builder.add_edge(START, "short")
    builder.add_edge(START, "long")
    builder.add_conditional_edges("short", lambda _: [Send("worker", {})] * 2, ["worker"])
    builder.add_edge("worker", "last")
    return builder


def nested() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Done)
    builder.add_node("outer", chain(inner=0.05).compile())
    builder.add_edge(START, "outer")
    return builder


def retried() -> StateGraph[Any, Any, Any, Any]:
    """Its node fails once in each run, and is repeated after 0.1 s."""
    tries: list[int] = []

    async def flaky(state: Done) -> Done:
        tries.append(1)
        if len(tries) % 2 == 1:
            raise ValueError("the first try fails")
        return {"done": ["flaky"]}

    policy = RetryPolicy(retry_on=ValueError, initial_interval=0.1, jitter=False)
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Done)
    builder.add_node("flaky", flaky, retry_policy=policy)
    builder.add_edge(START, "flaky")
    return builder


def asks() -> StateGraph[Any, Any, Any, Any]:
    """``ask`` interrupts beside ``other``; ``after`` comes when it is answered."""

    async def ask(state: Done) -> Done:
        return {"done": [str(interrupt("go on?"))]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Done)
    builder.add_node("ask", ask)
    builder.add_node("other", node("other", 0.02))
    builder.add_node("after", node("after", 0.01))
    builder.add_edge(START, "ask")
    builder.add_edge(START, "other")
    builder.add_edge("ask", "after")
    return builder
