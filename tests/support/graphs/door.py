"""Graphs that tell what came through the door: contexts, interrupts, and a node that waits."""

import asyncio
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import interrupt
from langgraph_sdk.runtime import ServerRuntime
from pydantic import BaseModel, Field


class State(TypedDict, total=False):
    x: str
    gate: str
    log: Annotated[list[str], operator.add]
    seen: Any


@dataclass
class Nested:
    deep: int = 7


@dataclass
class Plain:
    model: str = "default"
    tags: list[str] = field(default_factory=lambda: ["tag"])
    nested: Nested = field(default_factory=Nested)


@dataclass
class Needy:
    must: str
    other: int = 1


class Model(BaseModel):
    model: str = "default"
    number: int = 3


class NeedyModel(BaseModel):
    must: str = Field(alias="needed")
    other: int = 1


class Keys(TypedDict, total=False):
    model: str


def tell(state: State, runtime: Runtime[Any]) -> State:
    return {"seen": repr(runtime.context), "log": ["tell"]}


def telling(schema: type | None) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State, context_schema=schema)
    builder.add_node("tell", tell)
    builder.add_edge(START, "tell")
    builder.add_edge("tell", END)
    return builder


plain = telling(Plain)
needy = telling(Needy)
model = telling(Model)
needy_model = telling(NeedyModel)
keys = telling(Keys)
none = telling(None)

outer = StateGraph(State, context_schema=Plain)
outer.add_node("inner", telling(Plain).compile())
outer.add_edge(START, "inner")


@asynccontextmanager
async def made(runtime: ServerRuntime[Plain]) -> AsyncIterator[StateGraph[Any, Any, Any, Any]]:
    execution = runtime.execution_runtime
    said = repr(execution.context) if execution else "nothing"
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("tell", lambda state: {"seen": said})
    builder.add_edge(START, "tell")
    yield builder


async def wait(state: State) -> State:
    """Until somebody makes the file that the state names."""
    while state.get("gate") and not await asyncio.to_thread(Path(state["gate"]).exists):
        await asyncio.sleep(0.01)
    return {"log": [f"wait:{state.get('x')}"]}


slow = StateGraph(State)
slow.add_node("before", lambda state: {"log": [f"before:{state.get('x')}"]})
slow.add_node("wait", wait)
slow.add_edge(START, "before")
slow.add_edge("before", "wait")


def asks(name: str) -> Any:
    def ask(state: State) -> State:
        return {"log": [f"{name}:{interrupt(name)}"]}

    return ask


async def fails(state: State) -> State:
    # The node beside it has asked by then: LangGraph cancels it when this one fails.
    await asyncio.sleep(0.3)
    raise ValueError("it failed")


one = StateGraph(State)
one.add_node("ask", asks("q"))
one.add_edge(START, "ask")

two = StateGraph(State)
for number in ("1", "2"):
    two.add_node(f"ask{number}", asks(f"q{number}"))
    two.add_edge(START, f"ask{number}")

asks_below = StateGraph(State)
asks_below.add_node("below", one.compile())
asks_below.add_edge(START, "below")


async def answer_or_wait(state: State) -> State:
    """Ask; then wait until somebody makes the file that the state names."""
    answer = interrupt("slow")
    return {"log": [f"slow:{answer}", *(await wait(state))["log"]]}


asks_and_waits = StateGraph(State)
asks_and_waits.add_node("quick", asks("quick"))
asks_and_waits.add_node("slow", answer_or_wait)
asks_and_waits.add_edge(START, "quick")
asks_and_waits.add_edge(START, "slow")

asks_and_fails = StateGraph(State)
asks_and_fails.add_node("ask", asks("q"))
asks_and_fails.add_node("fails", fails)
asks_and_fails.add_edge(START, "ask")
asks_and_fails.add_edge(START, "fails")


slow_and_asking = StateGraph(State)
slow_and_asking.add_node("ask", asks("q"))
slow_and_asking.add_node("wait", wait)
slow_and_asking.add_edge(START, "ask")
slow_and_asking.add_edge(START, "wait")


async def by_store(
    state: State, config: RunnableConfig, *, store: BaseStore
) -> Literal["left", "right"]:
    await store.aput(("door",), "asked", {"x": state.get("x")})
    return "left"


def by_runtime(state: State, runtime: Runtime[Plain]) -> Literal["left", "right"]:
    assert runtime.store is not None
    return "right" if runtime.context.model == "right" else "left"


def branching(route: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State, context_schema=Plain)
    builder.add_node("first", lambda state: {"log": ["first"]})
    for side in ("left", "right"):
        builder.add_node(side, asks(side))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", route, ["left", "right"])
    return builder


branch_by_store = branching(by_store)
branch_by_runtime = branching(by_runtime)
