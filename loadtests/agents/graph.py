"""An agent of 13 steps: it asks its model four times and calls a tool three times.

With the checkpoint of the input and the one before the first step, a run makes 15 checkpoints. The
model is whatever ``OPENAI_BASE_URL`` names, by LangChain's own client.
"""

import asyncio
import operator
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

TOOL_SECONDS = 0.4


class Research(MessagesState, total=False):
    """Messages, and what the agent makes of them."""

    instructions: str
    findings: Annotated[list[str], operator.add]
    verdict: str


@tool
async def look_up(query: str) -> str:
    """Find what is known about something."""
    await asyncio.sleep(TOOL_SECONDS)
    return f"found {len(query.split())} words"


model = ChatOpenAI(model="fake-model", stream_usage=True).bind_tools([look_up])


async def prepare(state: Research) -> dict[str, Any]:
    return {"instructions": f"Answer after three look-ups. Messages: {len(state['messages'])}."}


async def ask_model(state: Research) -> dict[str, Any]:
    instructions = SystemMessage(state.get("instructions", ""))
    return {"messages": [await model.ainvoke([instructions, *state["messages"]])]}


async def keep_finding(state: Research) -> dict[str, Any]:
    return {"findings": [one.text for one in state["messages"][-1:] if type(one) is ToolMessage]}


async def review(state: Research) -> dict[str, Any]:
    return {"verdict": f"{len(state.get('findings', []))} findings"}


async def conclude(state: Research) -> dict[str, Any]:
    return {"instructions": ""}


def after_model(state: Research) -> Literal["tools", "review"]:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "review"


builder = StateGraph(Research)
builder.add_node("prepare", prepare)
builder.add_node("model", ask_model)
builder.add_node("tools", ToolNode([look_up]))
builder.add_node("keep_finding", keep_finding)
builder.add_node("review", review)
builder.add_node("conclude", conclude)
builder.add_edge(START, "prepare")
builder.add_edge("prepare", "model")
builder.add_conditional_edges("model", after_model)
builder.add_edge("tools", "keep_finding")
builder.add_edge("keep_finding", "model")
builder.add_edge("review", "conclude")
builder.add_edge("conclude", END)
