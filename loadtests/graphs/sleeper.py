"""A graph that sleeps and gives back what it was given; without a time it is a trivial run."""

import asyncio
from typing import TypedDict

from langgraph.graph import START, StateGraph


class Sleep(TypedDict, total=False):
    seconds: float
    word: str
    #: The word, once the time is over.
    said: str
    #: How often the thread has slept.
    times: int


async def sleep(state: Sleep) -> Sleep:
    if seconds := state.get("seconds", 0.0):
        await asyncio.sleep(seconds)
    return {"said": state["word"], "times": state.get("times", 0) + 1}


sleeper = StateGraph(Sleep)
sleeper.add_node("sleep", sleep)
sleeper.add_edge(START, "sleep")
