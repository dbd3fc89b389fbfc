"""The graphs that every contender serves; they need nothing but LangGraph."""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph


async def reply(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("hello")]}


async def reply_again(state: MessagesState) -> dict[str, Any]:
    """The reply has always the same id, so it takes the place of the one before."""
    return {"messages": [AIMessage("hello", id="reply")]}


def _one_node(node: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("reply", node)
    builder.add_edge(START, "reply")
    builder.add_edge("reply", END)
    return builder.compile()


#: Adds a message to those that it is given.
trivial = _one_node(reply)
#: Keeps a conversation at its length if the message it is given has always the same id too.
steady = _one_node(reply_again)
