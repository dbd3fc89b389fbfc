"""A graph whose nodes fail in every way that user code can; the input says how."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    how: str
    done: str


class NoWords(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __repr__(self) -> str:
        raise SystemExit(4)


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Own(BaseException):
    pass


def _exit(code: Any = 3) -> None:
    sys.exit(code)


async def _aexit(code: Any = 3) -> None:
    sys.exit(code)


async def _in_a_task() -> None:
    await asyncio.create_task(_aexit("from a task"))


async def _in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_aexit("from a group"))


async def _left_alone() -> None:
    asyncio.get_running_loop().create_task(_aexit())
    await asyncio.sleep(0.05)


async def _from_a_thread() -> None:
    loop = asyncio.get_running_loop()
    context_free = threading.Thread(target=lambda: asyncio.run_coroutine_threadsafe(_aexit(), loop))
    context_free.start()
    context_free.join()
    await asyncio.sleep(0.05)


async def _callback() -> None:
    asyncio.get_running_loop().call_soon(_exit, 4)
    await asyncio.sleep(0.05)


async def _stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)


async def _cancels_all() -> None:
    for task in asyncio.all_tasks():
        if task.get_name().startswith(("run-", "graph-")):
            task.cancel()
    await asyncio.sleep(0.05)


async def _refused() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise(ConnectionRefusedError("nobody listens")))


async def _raise(error: BaseException) -> None:
    raise error


WAYS: dict[str, Any] = {
    "no_words": lambda: _raise(NoWords()),
    "no_text": lambda: _raise(NoText("words")),
    "long": lambda: _raise(ValueError("x" * 20_000_000)),
    "surrogate": lambda: _raise(ValueError("a\0b\ud800")),
    "group": _refused,
    "exit": lambda: _raise(SystemExit("bye")),
    "exit_3": lambda: _raise(SystemExit(3)),
    "exit_4": lambda: _raise(SystemExit(4)),
    "interrupt": lambda: _raise(KeyboardInterrupt("ctrl")),
    "generator_exit": lambda: _raise(GeneratorExit("gone")),
    "own": lambda: _raise(Own("mine")),
    "cancelled": lambda: _raise(asyncio.CancelledError("by itself")),
    "in_a_task": _in_a_task,
    "in_a_group": _in_a_group,
    "left_alone": _left_alone,
    "cancels_all": _cancels_all,
    # Out of reach of the task; whoever runs the loop has to bear them.
    "callback": _callback,
    "stops_the_loop": _stops_the_loop,
    "from_a_thread": _from_a_thread,
    "sleeps": lambda: asyncio.sleep(2),
    "sleeps_long": lambda: asyncio.sleep(4),
    "kills": lambda: os._exit(3),
    "kills_4": lambda: os._exit(4),
}


async def fail(state: State) -> State:
    await WAYS[state.get("how", "exit")]()
    return {"done": "async"}


def fail_in_thread(state: State) -> State:
    how = state.get("how", "exit")
    if how == "exit":
        sys.exit("bye")
    if how == "interrupt":
        raise KeyboardInterrupt("ctrl")
    if how == "no_words":
        raise NoWords
    return {"done": "sync"}


def choose(state: State) -> str:
    if state.get("how") == "edge":
        sys.exit("from an edge")
    return END


def _one(node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("fail", node)
    builder.add_edge(START, "fail")
    builder.add_conditional_edges("fail", choose)
    return builder


hostile = _one(fail)
in_thread = _one(fail_in_thread)


def made(config: RunnableConfig) -> StateGraph[Any, Any, Any, Any]:
    if (config.get("configurable") or {}).get("how") == "exit":
        sys.exit("from a factory")
    return _one(fail)


@asynccontextmanager
async def entered(config: RunnableConfig) -> AsyncIterator[StateGraph[Any, Any, Any, Any]]:
    yield _one(fail)
    if (config.get("configurable") or {}).get("how") == "exit":
        sys.exit("when left")
