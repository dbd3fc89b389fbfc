"""A graph that writes numbered tokens, so that a client sees whether one is missing or twice."""

import asyncio
from typing import TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph


class Tokens(TypedDict, total=False):
    #: What the tokens begin with: the client's own word.
    word: str
    count: int
    pause_seconds: float
    written: int


async def write(state: Tokens) -> Tokens:
    write_token = get_stream_writer()
    for number in range(state["count"]):
        write_token(f"{state['word']}-{number}")
        await asyncio.sleep(state.get("pause_seconds", 0.0))
    return {"written": state["count"]}


tokens = StateGraph(Tokens)
tokens.add_node("write", write)
tokens.add_edge(START, "write")
