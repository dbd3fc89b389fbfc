"""Chat graphs that a load test must not pass."""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from headrace.graphs.echo import reply_to


async def explode(state: MessagesState) -> dict[str, Any]:
    raise ValueError("kaboom in node")


async def forget(state: MessagesState) -> dict[str, Any]:
    """Answers as the built-in graph does, but to the last message alone."""
    return {"messages": [AIMessage(reply_to(state["messages"][-1:]))]}


def _one_node(node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("call_model", node)
    builder.add_edge(START, "call_model")
    return builder


raising = _one_node(explode)
forgetful = _one_node(forget)
