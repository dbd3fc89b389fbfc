"""Every form a graph may have; each compiled with the saver and store it is given."""

from contextlib import asynccontextmanager

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore

from headrace.errors import AssistantNotFound, HeadraceError, StartupRefusal
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects

SAVER, STORE = InMemorySaver(), InMemoryStore()


def make_builder(text="hi"):
    builder = StateGraph(MessagesState)
    builder.add_node("reply", lambda state: {"messages": [("ai", text)]})
    builder.add_edge(START, "reply")
    return builder


async def opened(graph):
    sources = sources_from_objects({"agent": graph})
    return await GraphRegistry.open(sources, checkpointer=SAVER, store=STORE)


async def reply_of(registry, **configurable):
    config = {"configurable": {"thread_id": "1", **configurable}}
    async with registry.for_run("agent", config) as graph:
        result = await graph.ainvoke({"messages": [("user", "x")]}, config)
    return result["messages"][-1].content


async def coroutine_factory():
    return make_builder()


@asynccontextmanager
async def context_factory():
    yield make_builder().compile()


@pytest.mark.parametrize(
    "form",
    [
        make_builder(),
        make_builder().compile(),
        lambda: make_builder(),
        lambda: make_builder().compile(),
        coroutine_factory,
        context_factory,
    ],
    ids=["builder", "compiled", "function", "function compiled", "coroutine", "context"],
)
async def test_every_form_is_compiled_once_with_saver_and_store(form):
    registry = await opened(form)
    graph = registry.get("agent")
    assert (graph.checkpointer, graph.store, graph.name) == (SAVER, STORE, "agent")
    async with registry.for_run("agent", {}) as again:
        assert again is graph
    assert await reply_of(registry) == "hi"
    await registry.close()


async def test_a_compiled_graph_of_the_users_is_left_as_it_was():
    mine = make_builder().compile(name="mine", interrupt_before=["reply"])
    graph = (await opened(mine)).get("agent")
    assert mine.checkpointer is None
    assert graph.name == "mine"
    assert graph.interrupt_before_nodes == ["reply"]


async def test_an_entrypoint_is_a_graph():
    @entrypoint()
    async def workflow(value: int) -> int:
        return value + 1

    registry = await opened(workflow)
    config = {"configurable": {"thread_id": "2"}}
    assert await registry.get("agent").ainvoke(1, config) == 2


async def test_a_factory_of_the_configuration_is_called_for_every_run():
    log = []

    @asynccontextmanager
    async def make(config):
        log.append("open")
        yield make_builder(config["configurable"]["text"])
        log.append("closed")

    registry = await opened(make)
    assert log == []
    assert await reply_of(registry, text="one") == "one"
    assert await reply_of(registry, text="two") == "two"
    assert log == ["open", "closed"] * 2
    with pytest.raises(HeadraceError, match="built for each run"):
        registry.get("agent")


async def test_what_a_factory_opened_is_closed_with_the_registry():
    log = []

    @asynccontextmanager
    async def make():
        log.append("open")
        yield make_builder()
        log.append("closed")

    registry = await opened(make)
    assert log == ["open"]
    await registry.close()
    assert log == ["open", "closed"]


async def refusal(graph):
    with pytest.raises(StartupRefusal) as caught:
        await opened(graph)
    return caught.value


async def test_an_own_checkpointer_or_store_is_refused():
    said = await refusal(make_builder().compile(checkpointer=InMemorySaver()))
    assert said.code == "HR102"
    assert "a checkpointer (InMemorySaver) of its own" in str(said)
    said = await refusal(lambda: make_builder().compile(store=InMemoryStore()))
    assert said.code == "HR102"
    assert "a store (InMemoryStore) of its own" in str(said)


@pytest.mark.parametrize("thing", ["text", 5, None, lambda: "text", StateGraph])
async def test_what_is_no_graph_is_refused(thing):
    assert (await refusal(thing)).code == "HR103"


async def test_a_factory_that_raises_is_refused():
    def make():
        raise RuntimeError("no key")

    said = await refusal(make)
    assert said.code == "HR105"
    assert "calling it raised RuntimeError: no key" in str(said)


async def test_a_builder_that_cannot_be_compiled_is_refused():
    said = await refusal(StateGraph(MessagesState))
    assert said.code == "HR103"
    assert "it does not compile (Graph must have an entrypoint" in str(said)


async def test_an_unknown_graph_is_answered_with_those_that_are_there():
    registry = await opened(make_builder())
    with pytest.raises(AssistantNotFound, match="there are agent"):
        registry.get("nope")


def test_no_graph_at_all_is_refused():
    with pytest.raises(StartupRefusal, match="HR104"):
        sources_from_objects({})


async def test_the_advice_is_for_the_fault_at_hand():
    lost = StateGraph(MessagesState).add_node("a", lambda state: {})
    lost.add_edge(START, "a").add_edge("a", "nowhere")
    said = str(await refusal(lost))
    assert "it does not compile (" in said
    assert "`nowhere`" in said
    assert "Correct its nodes and edges" in said
    whole = StateGraph(MessagesState).add_node("a", lambda state: {}).add_edge(START, "a")
    said = str(await refusal(whole.compile(store=InMemoryStore())))
    assert "a store (InMemoryStore) of its own. Remove it: headrace injects the store" in said
    said = str(await refusal(whole.compile(checkpointer=InMemorySaver())))
    assert "headrace injects the saver" in said


@pytest.mark.parametrize("fault", [SystemExit(4), KeyboardInterrupt()])
async def test_a_factory_that_ends_the_program_is_refused(fault):
    def make():
        raise fault

    said = await refusal(make)
    assert said.code == "HR105"
    assert f"calling it raised {type(fault).__name__}" in str(said)
    assert "test_registry.py line " in str(said)
