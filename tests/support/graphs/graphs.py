"""Graphs without a model, one per behaviour that a server must carry."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt

from headrace.graphs.messages import ChatState


def one_node(state: type, name: str, node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder


async def reply(state: MessagesState) -> dict[str, Any]:
    """Says how many messages it has seen: tells whether a conversation went on."""
    return {"messages": [AIMessage(f"message {len(state['messages'])}")]}


agent = one_node(MessagesState, "reply", reply)


async def reply_stepwise(state: ChatState) -> dict[str, Any]:
    """The same, with messages that are stored step by step (DeltaChannel)."""
    return {"messages": [AIMessage(f"message {len(state['messages'])}")]}


stepwise = one_node(ChatState, "reply", reply_stepwise)


async def call_model(state: MessagesState) -> dict[str, Any]:
    model = FakeListChatModel(responses=["Hi yo"])
    return {"messages": [await model.ainvoke(state["messages"])]}


tokens = one_node(MessagesState, "model", call_model).compile()


class Steps(TypedDict, total=False):
    done: Annotated[list[int], operator.add]
    seconds: float
    last_seconds: float


def make_slow() -> StateGraph[Any, Any, Any, Any]:
    """Three steps of ``seconds`` each; announces each step before it sleeps. The third one lasts
    ``last_seconds``, if that is given.
    """
    builder = StateGraph(Steps)
    for number in range(3):

        async def step(state: Steps, number: int = number) -> Steps:
            get_stream_writer()({"step": number})
            seconds = state.get("seconds", 1.0)
            await asyncio.sleep(state.get("last_seconds", seconds) if number == 2 else seconds)
            return {"done": [number]}

        builder.add_node(f"step{number}", step)
    builder.add_edge(START, "step0")
    builder.add_edge("step0", "step1")
    builder.add_edge("step1", "step2")
    builder.add_edge("step2", END)
    return builder


class Topic(TypedDict, total=False):
    topic: str
    answer: str


async def ask(state: Topic) -> Topic:
    return {"answer": str(interrupt({"question": f"approve {state['topic']}?"}))}


hitl = one_node(Topic, "ask", ask)


async def explode(state: Topic) -> Topic:
    raise ValueError("kaboom in node")


boom = one_node(Topic, "boom", explode)


async def remember(state: Topic, *, store: BaseStore) -> Topic:
    await store.aput(("topics",), state["topic"], {"seen": True})
    found = await store.asearch(("topics",), limit=10)
    return {"answer": f"{len(found)} topics"}


memo = one_node(Topic, "remember", remember)
