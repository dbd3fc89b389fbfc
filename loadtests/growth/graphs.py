"""What the servers of these measurements serve beside the built-in graph."""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from headrace.graphs.chat import build_chat


async def _answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(content=f"You said: {state['messages'][-1].text}")]}


def messages_state() -> StateGraph[Any, Any, Any, Any]:
    """One node that answers, on LangGraph's usual list of messages."""
    builder = StateGraph(MessagesState)
    builder.add_node("call_model", _answer)
    builder.add_edge(START, "call_model")
    return builder


async def _wait(state: MessagesState) -> dict[str, Any]:
    await asyncio.sleep(3600)
    return {}


def quiet() -> StateGraph[Any, Any, Any, Any]:
    """A run that waits."""
    builder = StateGraph(MessagesState)
    builder.add_node("wait", _wait)
    builder.add_edge(START, "wait")
    return builder


def chat() -> StateGraph[Any, Any, Any, Any]:
    """The built-in graph, with the model that needs no key."""
    return build_chat("")
