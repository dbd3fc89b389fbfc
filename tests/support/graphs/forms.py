"""Graphs of every form that can be described: nested, with a context, made for each run."""

import asyncio
import operator
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from langgraph_sdk.runtime import ServerRuntime


class Seen(TypedDict, total=False):
    topic: str
    saw_configurable: dict[str, Any]
    saw_context: Any
    made_for: str


class Settings(TypedDict, total=False):
    model_name: str


@dataclass
class Strict:
    model_name: str = "none"


def one_node(
    state: type, name: str, node: Any, context: type | None = None
) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state, context_schema=context)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder


async def look(state: Seen, config: RunnableConfig, runtime: Runtime[Any]) -> Seen:
    """Tells what a graph finds as its configuration."""
    configurable = {
        key: value
        for key, value in config["configurable"].items()
        if isinstance(value, str | int) and not key.startswith("__")
    }
    context = runtime.context
    return {
        "saw_configurable": configurable,
        "saw_context": vars(context) if isinstance(context, Strict) else context,
    }


ctx = one_node(Seen, "look", look, Settings)
strict = one_node(Seen, "look", look, Strict)


async def say(state: MessagesState) -> dict[str, Any]:
    return {"messages": [("ai", "inner")]}


_deep = one_node(MessagesState, "inner", say).compile()
_child = one_node(MessagesState, "deep", _deep).compile()
nested = one_node(MessagesState, "child", _child)


@asynccontextmanager
async def made(config: RunnableConfig) -> AsyncIterator[StateGraph[Any, Any, Any, Any]]:
    """Another node for each configuration."""
    name = str(config.get("configurable", {}).get("node", "plain"))

    async def node(state: Seen) -> Seen:
        return {"made_for": name}

    yield one_node(Seen, name, node)


class Asked(TypedDict, total=False):
    topic: str
    answer: str


async def inner_ask(state: Asked) -> Asked:
    return {"answer": str(interrupt({"inner": f"{state['topic']}?"}))}


nested_hitl = one_node(Asked, "child", one_node(Asked, "inner_ask", inner_ask).compile())


class Steps(TypedDict, total=False):
    done: Annotated[list[str], operator.add]


def make_pair() -> StateGraph[Any, Any, Any, Any]:
    """Two nodes, one after the other, each of which says that it has run."""
    builder = StateGraph(Steps)

    async def first(state: Steps) -> Steps:
        return {"done": ["first"]}

    async def second(state: Steps) -> Steps:
        return {"done": ["second"]}

    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder


pair = make_pair()


async def with_runtime(config: RunnableConfig, runtime: ServerRuntime[Strict]) -> Any:
    """Tells for what it was made: what is executed finds its context, what is read finds none."""
    executed = runtime.execution_runtime
    name = executed.context.model_name if executed is not None else "none"

    async def node(state: Seen) -> Seen:
        return {"made_for": f"{runtime.access_context} {name}"}

    return one_node(Seen, "look", node, Strict)


@entrypoint()
async def workflow(value: dict[str, int]) -> dict[str, int]:
    """The functional form: no builder, no nodes."""
    return {"doubled": 2 * value["number"]}


def picky(config: RunnableConfig) -> StateGraph[Any, Any, Any, Any]:
    """Cannot be made without a run's configuration."""
    name = config["configurable"]["node"]

    async def node(state: Seen) -> Seen:
        return {"made_for": name}

    return one_node(Seen, name, node)


@contextmanager
def stuck(config: RunnableConfig) -> Iterator[StateGraph[Any, Any, Any, Any]]:
    """Its node never ends; what was opened for it is told in a file."""
    journal = Path(config["configurable"].get("journal", os.devnull))

    async def node(state: Seen) -> Seen:
        _tell(journal, "running ")
        await asyncio.Event().wait()
        return {}

    try:
        yield one_node(Seen, "node", node)
    finally:
        _tell(journal, "closed")


def _tell(journal: Path, text: str) -> None:
    with journal.open("a") as file:
        file.write(text)


@dataclass
class Thing:
    number: int


class Holding(TypedDict, total=False):
    thing: Any
    answer: str


def make_typed() -> StateGraph[Any, Any, Any, Any]:
    """Holds an object of a class of its own while it waits."""
    builder = StateGraph(Holding)

    async def put(state: Holding) -> Holding:
        return {"thing": Thing(3)}

    async def wait(state: Holding) -> Holding:
        return {"answer": f"{interrupt('well?')} {type(state['thing']).__name__}"}

    builder.add_node("put", put)
    builder.add_node("wait", wait)
    builder.add_edge(START, "put")
    builder.add_edge("put", "wait")
    return builder


typed = make_typed()
