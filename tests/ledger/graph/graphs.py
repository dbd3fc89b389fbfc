"""A graph whose nodes write into a file, durably, when they begin and when they end."""

import asyncio
import json
import operator
import os
import time
from pathlib import Path
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    """``steps`` supersteps of two nodes each, of up to ``seconds``."""

    steps: int
    seconds: float
    left: Annotated[list[int], operator.add]
    right: Annotated[list[int], operator.add]


def note(event: str, config: RunnableConfig, step: int, node: str) -> None:
    """Append one line and wait until the disk has it: no later death can undo it."""
    line = {
        "event": event,
        "run_id": str(config["configurable"]["run_id"]),
        "attempt": config["metadata"]["run_attempt"],
        "step": step,
        "node": node,
        "at": time.time(),
    }
    file = os.open(Path(os.environ["LEDGER"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


async def left(state: State, config: RunnableConfig) -> State:
    return {"left": [await step("left", len(state.get("left", [])), state["seconds"], config)]}


async def right(state: State, config: RunnableConfig) -> State:
    # Half as long: a kill often finds this node finished and the other one not.
    return {
        "right": [await step("right", len(state.get("right", [])), state["seconds"] / 2, config)]
    }


async def step(node: str, number: int, seconds: float, config: RunnableConfig) -> int:
    note("begun", config, number, node)
    await asyncio.sleep(seconds)
    note("ended", config, number, node)
    return number


async def turn(state: State) -> State:
    return {}


def goes_on(state: State) -> list[str] | str:
    return ["left", "right"] if len(state.get("left", [])) < state["steps"] else END


ledger = StateGraph(State)
ledger.add_node("left", left)
ledger.add_node("right", right)
ledger.add_node("turn", turn)
ledger.add_conditional_edges(START, goes_on, ["left", "right", END])
ledger.add_edge(["left", "right"], "turn")
ledger.add_conditional_edges("turn", goes_on, ["left", "right", END])
