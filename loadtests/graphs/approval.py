"""A graph that stops and asks, and goes on with the answer that a command brings."""

from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class Order(TypedDict, total=False):
    order: str
    answer: str
    done: str
    #: How many orders the thread has carried out.
    carried_out: int


async def ask(state: Order) -> Order:
    return {"answer": interrupt({"approve": state["order"]})}


async def carry_out(state: Order) -> Order:
    return {
        "done": f"{state['order']}: {state['answer']}",
        "carried_out": state.get("carried_out", 0) + 1,
    }


approval = StateGraph(Order)
approval.add_node("ask", ask)
approval.add_node("carry_out", carry_out)
approval.add_edge(START, "ask")
approval.add_edge("ask", "carry_out")
