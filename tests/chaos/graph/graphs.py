"""The graph under chaos: without a model, and every step says who made it."""

import asyncio
import json
import operator
import os
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    """A turn is ``steps`` executions of one node, of ``seconds`` each; it asks at step ``asks``."""

    turn: str
    steps: int
    seconds: float
    asks: int
    log: Annotated[list[dict[str, Any]], operator.add]


def made(state: State) -> int:
    """Steps of the present turn that are in the state."""
    return sum(1 for entry in state.get("log", []) if entry["turn"] == state["turn"])


async def work(state: State, config: RunnableConfig) -> State:
    step = made(state)
    if state.get("asks", -1) == step:
        interrupt({"turn": state["turn"]})
    entry = {
        "turn": state["turn"],
        "run_id": str(config["configurable"]["run_id"]),
        "attempt": config["metadata"]["run_attempt"],
        "process": f"{os.environ.get('CHAOS_POD', '')}/{os.getpid()}",
        "step": step,
        "at": time.time(),
    }
    writer = get_stream_writer()
    note("begun", entry)
    for token in (0, 1):
        writer({**entry, "token": token})
        await asyncio.sleep(state["seconds"] / 2)
    note("ended", entry)
    return {"log": [entry]}


def note(event: str, entry: dict[str, Any]) -> None:
    """One line that outlives the process, if anybody reads it: the runner of chaos does."""
    ledger = os.environ.get("CHAOS_LEDGER")
    if ledger is None:
        return
    line = {key: entry[key] for key in ("run_id", "attempt", "turn", "step")}
    file = os.open(Path(ledger), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps({"event": event, **line}).encode() + b"\n")
    finally:
        os.close(file)


def goes_on(state: State) -> str:
    return "work" if made(state) < state["steps"] else END


chaos = StateGraph(State)
chaos.add_node("work", work)
chaos.add_edge(START, "work")
chaos.add_conditional_edges("work", goes_on, ["work", END])
