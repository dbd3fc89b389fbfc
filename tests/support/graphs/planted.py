"""Graphs for secrets: one keeps what it gets, one asks, one calls a graph below."""

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from headrace.graphs.messages import MessagesChannel


class Kept(TypedDict, total=False):
    text: str
    messages: list[Any]
    inner: dict[str, Any]


async def keep(state: Kept) -> Kept:
    return {}


async def ask(state: Kept) -> Kept:
    interrupt("well?")
    return {}


def one_node(node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(Kept)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder


keeps = one_node(keep)
asks = one_node(ask)
above = one_node(one_node(keep).compile(checkpointer=True))


class Talk(TypedDict, total=False):
    text: str
    messages: Annotated[list[Any], MessagesChannel()]


async def answer(state: Talk) -> Talk:
    return {"messages": [AIMessage(f"{len(state.get('messages', []))}")]}


def make_chat() -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(Talk)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder


chat = make_chat()


class Echoed(TypedDict, total=False):
    value: Any
    seen: Any


async def show(state: Echoed, config: RunnableConfig, runtime: Runtime[Any]) -> Echoed:
    """What reached the graph, without keys of LangGraph's own."""
    configurable = config["configurable"]
    return {
        "seen": {
            "value": state.get("value"),
            "configurable": {
                key: value for key, value in configurable.items() if not key.startswith("__")
            },
            "context": runtime.context,
            "metadata": config.get("metadata"),
        }
    }


def make_echoes() -> StateGraph[Any, Any, Any, Any]:
    builder: Any = StateGraph(Echoed)
    builder.add_node("show", show)
    builder.add_edge(START, "show")
    return builder  # type: ignore[no-any-return]


echoes = make_echoes()
