"""A graph whose state is as large as its input says, new in each step."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class Large(TypedDict, total=False):
    bytes: int
    steps: int
    done: int
    blob: str


async def step(state: Large) -> Large:
    done = state.get("done", 0) + 1
    return {"done": done, "blob": chr(ord("a") + done) * state["bytes"]}


async def onward(state: Large) -> str:
    return END if state["done"] >= state["steps"] else "step"


builder = StateGraph(Large)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", onward, [END, "step"])
graph = builder.compile()
