"""A graph whose nodes hear no cancel: they go on until a file is there."""

import asyncio
import threading
import time
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

__all__ = ["deaf"]


class Wait(TypedDict, total=False):
    how: str
    until: str
    #: So many of the node at once.
    width: int


async def on_the_loop(state: Wait) -> Wait:
    until = Path(state["until"])
    # What holds up no loop, and hears no cancel: time passes whatever is thrown into it.
    while not until.exists():  # noqa: ASYNC240 - a stat is quick
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
    return {}


def in_a_thread(state: Wait) -> Wait:
    until = Path(state["until"])
    while not until.exists():
        time.sleep(0.02)
    return {}


async def in_a_thread_of_its_own(state: Wait) -> Wait:
    threading.Thread(target=in_a_thread, args=(state,), daemon=True).start()
    return {}


def choose(state: Wait) -> list[Send]:
    return [Send(state["how"], state)] * state.get("width", 1)


deaf = StateGraph(Wait)
for node in (on_the_loop, in_a_thread, in_a_thread_of_its_own):
    deaf.add_node(node)
    deaf.add_edge(node.__name__, END)
deaf.add_conditional_edges(START, choose)
