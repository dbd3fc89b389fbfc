"""A run that says nothing for as long as it is told: its stream lives on heartbeats."""

import asyncio
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class Quiet(TypedDict, total=False):
    seconds: float


async def wait(state: Quiet) -> Quiet:
    await asyncio.sleep(state.get("seconds", 60.0))
    return {}


quiet = StateGraph(Quiet)
quiet.add_node("wait", wait)
quiet.add_edge(START, "wait")
quiet.add_edge("wait", END)
