"""Graphs that do one thing very often: tell events, leave tasks behind."""

import asyncio
from typing import Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class Count(TypedDict, total=False):
    count: int
    done: int


async def tell(state: Count) -> Count:
    write = get_stream_writer()
    for number in range(state["count"]):
        write(number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    return {"done": state["count"]}


async def leave(state: Count) -> Count:
    """Tasks that nobody awaits: some end, some raise, some sleep on."""

    async def one(number: int) -> None:
        await asyncio.sleep(0.01 if number % 2 else 60)
        if number % 400 == 1:
            raise ValueError(number)

    kept = [asyncio.create_task(one(number)) for number in range(state["count"])]
    return {"done": len(kept)}


def one_node(node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Count)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder


tells, leaves = one_node(tell), one_node(leave)
