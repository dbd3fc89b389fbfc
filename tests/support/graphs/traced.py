"""Graphs for tests of traces: they call models and tools, begin spans of their own, and wait."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from opentelemetry import propagate, trace

_tracer = trace.get_tracer("the user's")


class Words(TypedDict, total=False):
    seconds: float
    said: Annotated[list[str], operator.add]


def model() -> GenericFakeChatModel:
    answer = AIMessage(
        "hello",
        usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
        response_metadata={"model_name": "fake-2", "finish_reason": "stop"},
    )
    return GenericFakeChatModel(messages=iter([answer]))


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    with _tracer.start_as_current_span("the tool's own"):
        return word.upper()


async def talk(state: Words) -> Words:
    """A model call; then a span of the user's, which must not be below that call any more."""
    answer = await model().ainvoke("hi, my secret is 4711")
    with _tracer.start_as_current_span("the user's own"):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        await look_up.ainvoke({"word": "hello"})
    return {"said": [str(answer.content), carrier["traceparent"]]}


def talk_in_thread(state: Words) -> Words:
    """A sync node: it runs in a thread."""
    answer = model().invoke("hi")
    with _tracer.start_as_current_span("of the thread"):
        return {"said": [str(answer.content)]}


def inner_graph() -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Words)
    builder.add_node("inside", talk_in_thread)
    builder.add_edge(START, "inside")
    builder.add_edge("inside", END)
    return builder.compile()


def make_traced() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Words)
    builder.add_node("talk", talk)
    builder.add_node("thread", talk_in_thread)
    builder.add_node("subgraph", inner_graph())
    builder.add_edge(START, "talk")
    builder.add_edge("talk", "thread")
    builder.add_conditional_edges("thread", lambda _: "subgraph", ["subgraph"])
    builder.add_edge("subgraph", END)
    return builder


traced = make_traced()


def make_parallel() -> StateGraph[Any, Any, Any, Any]:
    """Three nodes at once, of which each calls a model and begins a span of its own."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Words)
    for name in ("left", "middle", "right"):

        async def node(state: Words, name: str = name) -> Words:
            await asyncio.sleep(0.01)
            await asyncio.gather(model().ainvoke("hi"), model().ainvoke("hi"))
            with _tracer.start_as_current_span(f"own of {name}"):
                await asyncio.sleep(0.01)
            return {"said": [name]}

        builder.add_node(name, node)
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder


parallel = make_parallel()


def make_approval() -> StateGraph[Any, Any, Any, Any]:
    """Works for ``seconds``, asks, and ends."""

    async def work(state: Words) -> Words:
        await asyncio.sleep(state.get("seconds", 0.0))
        return {"said": ["worked"]}

    async def approve(state: Words) -> Words:
        return {"said": [str(interrupt("may I?"))]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Words)
    builder.add_node("prepare", work)
    builder.add_node("work", work)
    builder.add_node("approve", approve)
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "work")
    builder.add_edge("work", "approve")
    builder.add_edge("approve", END)
    return builder
