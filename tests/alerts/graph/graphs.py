"""Graphs that do harm when their input says so."""

import asyncio
import gc
import os
import signal
import time
from typing import Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from headrace.db.pool import SharedPool
from headrace.graphs.chat import build_chat

#: Connections that were taken out of this process's pool, with the pool.
_taken: list[tuple[Any, Any]] = []


class State(TypedDict, total=False):
    """What the node does, in this order."""

    seconds: float
    #: Seconds for which the event loop stands still.
    blocks: float
    #: Its process is killed.
    dies: bool
    #: The pool loses connections, or gets them back.
    leaks: int
    mends: bool
    #: Events of 32 KiB that it sends, and the pause after each.
    events: int
    pause: float
    #: Bytes that it leaves in the state.
    grows: int
    text: str


async def node(state: State) -> State:
    await asyncio.sleep(state.get("seconds", 0.0))
    if state.get("blocks"):
        time.sleep(state["blocks"])  # noqa: ASYNC251 - this is the fault
    if state.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(state.get("leaks", 0)):
        leak()
    if state.get("mends"):
        mend()
    writer = get_stream_writer()
    for _ in range(state.get("events", 0)):
        writer("x" * 32768)
        await asyncio.sleep(state.get("pause", 0.0))
    return {"text": os.urandom(state.get("grows", 10) // 2).hex()}


def leak() -> None:
    """Take a free connection out of the pool, and tell nobody."""
    (pool,) = (one for one in gc.get_objects() if isinstance(one, SharedPool))
    if pool._pool:
        _taken.append((pool, pool._pool.popleft()))


def mend() -> None:
    while _taken:
        pool, connection = _taken.pop()
        pool._pool.append(connection)


async def raises(state: State) -> State:
    raise ValueError("as it was told to")


def _one_node(action: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("node", action)
    builder.add_edge(START, "node")
    return builder


work = _one_node(node)
fails = _one_node(raises)
chat = build_chat("")
