"""Graphs that leave in their state, or ask for, what is hard to show."""

import math
import operator
from typing import Annotated, Any, TypedDict
from uuid import UUID

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt


class Untold:
    """An object that no checkpoint can hold, and that says nothing of itself."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def arguments(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "tuple_key": {(1, 2): "x"},
    "bytes_key": {b"k": "x"},
    "mixed_keys": {1: "int", "1": "text", None: "none", UUID(int=1): "id"},
    "nan": math.nan,
    "infinities": [math.inf, -math.inf],
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "nested": {"nul\0": ["a\0b", math.nan], "half\ud800": "\ud800"},
    "big": 2**70,
    "bigs": [2**70, -(2**70)],
    "large_float": 1e20,
    "deep": [
        AIMessage("", tool_calls=[{"name": "t", "args": {"a": arguments(240)}, "id": "1"}], id="m")
    ],
    "message": [AIMessage("\ud800", additional_kwargs={"n": 2**70, "nan": math.nan}, id="m")],
}


class State(TypedDict, total=False):
    case: str
    value: Any


def leave(state: State) -> dict[str, Any]:
    return {"value": VALUES[state["case"]]}


def tell(state: State) -> dict[str, Any]:
    """A custom event, which no checkpoint has to hold."""
    get_stream_writer()({"told": Untold(), (1, 2): VALUES.get(state["case"])})
    return {}


def ask(state: State) -> dict[str, Any]:
    return {"value": interrupt({"question": VALUES[state["case"]]})}


async def keep(state: State, *, store: BaseStore) -> dict[str, Any]:
    await store.aput(("odd",), state["case"], {"value": VALUES[state["case"]]})
    return {}


def one_node(state: type, node: Any, **schemas: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state, **schemas)
    builder.add_node(node.__name__, node)
    builder.add_edge(START, node.__name__)
    return builder


left = one_node(State, leave)
told = one_node(State, tell)
asked = one_node(State, ask)
kept = one_node(State, keep)


class Answers(TypedDict, total=False):
    question: str
    answers: Annotated[list[str], operator.add]


def asking(name: str) -> Any:
    def node(state: Answers) -> dict[str, Any]:
        return {"answers": [interrupt({"from": name})]}

    return node


def plain(state: Answers) -> dict[str, Any]:
    return {"answers": ["plain"]}


parallel: StateGraph[Any, Any, Any, Any] = StateGraph(Answers)
for _name in ("one", "two", "three"):
    parallel.add_node(_name, asking(_name))
    parallel.add_edge(START, _name)
parallel.add_node("plain", plain)
parallel.add_edge(START, "plain")

#: The three questions come from a subgraph, a fourth from beside it.
around: StateGraph[Any, Any, Any, Any] = StateGraph(Answers)
around.add_node("inner", parallel.compile())
around.add_node("four", asking("four"))
around.add_edge(START, "inner")
around.add_edge(START, "four")


class Question(TypedDict):
    question: str


class Answer(TypedDict):
    answer: str


class Whole(TypedDict):
    question: str
    answer: str
    secret: str


class Private(TypedDict):
    hidden: str


def first(state: Question) -> dict[str, Any]:
    return {"secret": "s", "hidden": "h"}


def second(state: Private) -> dict[str, Any]:
    return {"answer": state["hidden"], "secret": "s2"}


def scope(*nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(Whole, input_schema=Question, output_schema=Answer)
    for before, node in zip((START, *(one.__name__ for one in nodes)), nodes, strict=False):
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
    return builder


scoped = scope(first, second)


def confirm(state: Whole) -> dict[str, Any]:
    return {"answer": interrupt("sure?")}


scoped_asking = scope(first, confirm)

scoped_around = StateGraph(Whole, input_schema=Question, output_schema=Answer)
scoped_around.add_node("inner", scoped.compile())
scoped_around.add_edge(START, "inner")
