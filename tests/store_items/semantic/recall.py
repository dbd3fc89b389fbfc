"""A graph whose node writes to the store, and searches it by meaning."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    root: str
    notes: dict[str, str]
    query: str
    found: list[dict[str, Any]]


async def recall(state: State, *, store: BaseStore) -> State:
    namespace = (state["root"], "notes")
    for key, text in state.get("notes", {}).items():
        await store.aput(namespace, key, {"text": text})
    found = await store.asearch((state["root"],), query=state["query"], limit=2)
    return {"found": [{"key": one.key, "score": one.score} for one in found]}


builder = StateGraph(State)
builder.add_node("recall", recall)
builder.add_edge(START, "recall")
