"""The private names of LangGraph that graphs need are where they were."""

from langgraph._internal import _constants
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore

from headrace.graphs.injected_runtime import RUNTIME, runtime_for_update
from tests.support.graphs.door import State, by_store


def test_the_key_is_the_one_that_langgraph_reads():
    assert _constants.CONFIG_KEY_RUNTIME == RUNTIME


async def test_an_edge_finds_the_store_where_langgraph_looks_for_it():
    builder = StateGraph(State)
    builder.add_node("first", lambda state: state)
    builder.add_node("left", lambda state: state)
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", by_store, ["left"])
    store = InMemoryStore()
    graph = builder.compile().with_config(configurable=runtime_for_update(store, None))
    await graph.ainvoke({"x": "1"})
    found = await store.aget(("door",), "asked")
    assert found is not None
    assert found.value == {"x": "1"}
