"""A graph whose steps write down when they begin, in a file that outlives each process."""

import asyncio
import operator
import os
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class Turn(TypedDict, total=False):
    """``steps``: how long each step takes, in seconds."""

    turn: str
    steps: list[float]
    done: Annotated[list[int], operator.add]


def write_down(line: str) -> None:
    """Append a line; it is on the disk when this returns."""
    file = os.open(os.environ["ROLLING_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


async def work(state: Turn, config: RunnableConfig) -> Turn:
    number = len(state.get("done", []))
    attempt = config["metadata"]["run_attempt"]
    write_down(f"{state['turn']} {number} {attempt} {os.getpid()}")
    get_stream_writer()({"step": number})
    await asyncio.sleep(state["steps"][number])
    return {"done": [number]}


def goes_on(state: Turn) -> str:
    return "work" if len(state["done"]) < len(state["steps"]) else END


ledger: StateGraph[Any, Any, Any, Any] = StateGraph(Turn)
ledger.add_node("work", work)
ledger.add_edge(START, "work")
ledger.add_conditional_edges("work", goes_on, ["work", END])
