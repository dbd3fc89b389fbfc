"""A run that takes one second in a node, and answers."""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

RUN_SECONDS = 1.0


async def work(state: MessagesState) -> dict[str, Any]:
    await asyncio.sleep(RUN_SECONDS)
    return {"messages": [AIMessage("done")]}


builder = StateGraph(MessagesState)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
