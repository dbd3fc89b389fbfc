"""Makes a web address of every title it is told, and counts which words have come up."""

import operator
from collections import Counter
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from slugify import slugify


class Titles(TypedDict, total=False):
    """``messages`` is what /chat needs; the rest is this graph's own."""

    messages: Annotated[list[AnyMessage], add_messages]
    slugs: Annotated[list[str], operator.add]
    words: dict[str, int]


async def make_slug(state: Titles) -> Titles:
    return {"slugs": [slugify(state["messages"][-1].text)]}


async def count_words(state: Titles) -> Titles:
    return {"words": Counter("-".join(state["slugs"]).split("-"))}


async def answer(state: Titles) -> Titles:
    slug, often = state["slugs"][-1], max(state["words"], key=state["words"].__getitem__)
    said = f"/{slug} (title {len(state['slugs'])}, most of all about {often})"
    return {"messages": [AIMessage(said)]}


builder = StateGraph(Titles)
builder.add_node(make_slug)
builder.add_node(count_words)
builder.add_node(answer)
builder.add_edge(START, "make_slug")
builder.add_edge("make_slug", "count_words")
builder.add_edge("count_words", "answer")
builder.add_edge("answer", END)
