"""Graphs that lose, double or confuse what they are given, as a broken server would."""

from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from loadtests.graphs.agent import next_message
from loadtests.graphs.approval import Order
from loadtests.graphs.sleeper import Sleep
from loadtests.graphs.tokens import Tokens


def _graph(state: type[Any], node: Any, name: str) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(state)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    return builder


async def _without_tools(state: MessagesState) -> dict[str, Any]:
    said = next_message(state["messages"])
    return {"messages": [said.model_copy(update={"tool_calls": [], "content": "0 (question 1)"})]}


async def _of_another(state: Order) -> Order:
    answer = interrupt({"approve": "the order of somebody else"})
    return {"answer": answer, "done": answer}


async def _twice(state: Tokens) -> Tokens:
    write = get_stream_writer()
    for number in (0, 0, *range(1, state["count"] - 1)):
        write(f"{state['word']}-{number}")
    return {"written": state["count"]}


async def _forgotten(state: Sleep) -> Sleep:
    return {"said": "something else", "times": 7}


agent = _graph(MessagesState, _without_tools, "model")
approval = _graph(Order, _of_another, "ask")
tokens = _graph(Tokens, _twice, "write")
sleeper = _graph(Sleep, _forgotten, "sleep")
