"""Graphs of an attacker, and ``echo``, which the well-behaved client runs. No model is asked."""

import asyncio
import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

_MB = 1_000_000


class State(TypedDict, total=False):
    said: str
    seconds: float
    #: Of each step, and how many there are.
    megabytes: int
    steps: int
    step: int
    secret: str
    names: list[str]
    out: Any
    log: Annotated[list[str], operator.add]


class Messages(TypedDict):
    messages: Annotated[list[Any], add_messages]


def _one(node: Any, schema: Any = State) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(schema)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder


async def _echo(state: State) -> State:
    return {"said": state.get("said", "") + "!", "log": ["echo"]}


async def _sleep(state: State) -> State:
    await asyncio.sleep(state.get("seconds", 3600.0))
    return {"said": "slept"}


async def _hear_nothing(state: State) -> State:
    """It goes on where it is cancelled."""
    ends_at = time.monotonic() + state.get("seconds", 60.0)
    while (left := ends_at - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return {"said": "deaf"}


def _block_its_thread(state: State) -> State:
    time.sleep(state.get("seconds", 60.0))
    return {"said": "blocked"}


async def _cancel_others(state: State) -> State:
    """To clean up after itself, as it thinks."""
    for task in asyncio.all_tasks():
        if task.get_name() in state.get("names", []):
            task.cancel()
    await asyncio.sleep(0.05)
    return {"said": "cancelled"}


async def _make_large(state: State) -> State:
    step = state.get("step", 0) + 1
    return {"out": chr(96 + step % 26) * (state.get("megabytes", 1) * _MB), "step": step}


async def _fail(state: State) -> State:
    raise ValueError(state.get("secret", "it fails"))


async def _answer(state: Messages) -> Messages:
    return {"messages": [{"role": "assistant", "content": "I see."}]}


echo = _one(_echo)
sleeper = _one(_sleep)
deaf = _one(_hear_nothing)
blocked = _one(_block_its_thread)
canceller = _one(_cancel_others)
fails = _one(_fail)
chat = _one(_answer, Messages)

large: StateGraph[Any, Any, Any, Any] = StateGraph(State)
large.add_node("node", _make_large)
large.add_edge(START, "node")
large.add_conditional_edges(
    "node", lambda state: "node" if state["step"] < state.get("steps", 1) else END, ["node", END]
)
