"""Factories that take the saver and the store, as the tutorial's own does."""

import functools
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph_sdk.runtime import ServerRuntime
from structlog.testing import capture_logs

from headrace.checkpoints.store import Store
from headrace.errors import StartupRefusal
from headrace.graphs.factories import factory_of
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from tests.support.database import open_pool
from tests.support.engine import open_saver

if TYPE_CHECKING:
    from somewhere import OtherSaver, OtherStore  # type: ignore[import-not-found]

SAVER, STORE = InMemorySaver(), InMemoryStore()


def builder() -> StateGraph[Any, Any, Any, Any]:
    made: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    made.add_node("n", lambda state: {"messages": []})
    made.add_edge(START, "n")
    return made


def names(store, checkpointer): ...
def keywords(*, checkpointer, store): ...
def without_names(checkpointer, store, /): ...
def annotated(a: AsyncPostgresStore, b: AsyncPostgresSaver): ...
def bases(a: BaseCheckpointSaver[Any], b: BaseStore | None = None): ...
def marked(a: Annotated[BaseStore, "x"], saver: InMemorySaver): ...
def texts(a: "OtherSaver", b: "OtherStore"): ...
def defaults(checkpointer=None, store=None, tools=()): ...
def all_four(config, runtime, checkpointer, store): ...
def any_order(s: BaseStore, c: RunnableConfig, checkpointer: Any, r: ServerRuntime): ...
def rest(store, *rest, **others): ...


class Maker:
    def __call__(self, store, saver): ...


@asynccontextmanager
async def context(store: BaseStore, checkpointer):
    yield builder()


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (names, ["store", "checkpointer"]),
        (keywords, ["checkpointer", "store"]),
        (without_names, ["checkpointer", "store"]),
        (annotated, ["store", "checkpointer"]),
        (bases, ["checkpointer", "store"]),
        (marked, ["store", "checkpointer"]),
        (texts, ["checkpointer", "store"]),
        (defaults, ["checkpointer", "store"]),
        (all_four, ["config", "runtime", "checkpointer", "store"]),
        (any_order, ["store", "config", "checkpointer", "runtime"]),
        (rest, ["store"]),
        (Maker(), ["store", "checkpointer"]),
        (context, ["store", "checkpointer"]),
        (functools.partial(names, STORE), ["checkpointer"]),
        (functools.partial(names, store=STORE), ["checkpointer"]),
        (functools.partial(functools.partial(all_four, {}), store=1), ["runtime", "checkpointer"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_saver_and_store_are_told_apart_from_what_a_run_brings(function, parts):
    factory = factory_of(function, "here")
    assert factory is not None
    assert list(factory.parameters.values()) == parts
    assert factory.is_per_run is bool({"config", "runtime"} & set(parts))


@pytest.mark.parametrize("form", ["function", "coroutine", "context", "instance", "partial"])
@pytest.mark.parametrize("compiled", [True, False])
async def test_the_tutorials_factory_is_called_once_with_the_servers_own(form, compiled):
    calls = []

    def make(store, checkpointer):
        calls.append((store is STORE, checkpointer is SAVER))
        made = builder()
        return made.compile(store=store, checkpointer=checkpointer) if compiled else made

    async def coroutine(store: BaseStore, checkpointer: AsyncPostgresSaver):
        return make(store, checkpointer)

    @asynccontextmanager
    async def opened(*, checkpointer, store):
        yield make(store, checkpointer)

    class Instance:
        def __call__(self, checkpointer: Any, store: Any) -> Any:
            return make(store, checkpointer)

    def with_model(model, store, checkpointer):
        return make(store, checkpointer)

    factory = {
        "function": make,
        "coroutine": coroutine,
        "context": opened,
        "instance": Instance(),
        "partial": functools.partial(with_model, "a model"),
    }[form]
    registry = await registry_of(factory)
    graph = registry.get("agent")
    assert (graph.checkpointer, graph.store, graph.name) == (SAVER, STORE, "agent")
    config: RunnableConfig = {"configurable": {"thread_id": f"{form} {compiled}"}}
    for _ in range(2):
        async with registry.for_run("agent", config, access="threads.create_run") as served:
            assert await served.ainvoke({"messages": []}, config) == {"messages": []}
    assert calls == [(True, True)]
    await registry.close()


async def test_one_that_takes_the_configuration_too_is_called_for_every_run():
    seen = []

    def make(config, checkpointer, store):
        seen.append(config["configurable"]["who"])
        return builder().compile(checkpointer=checkpointer, store=store)

    registry = await registry_of(make)
    for who in ("ada", "bob"):
        async with registry.for_run("agent", {"configurable": {"who": who}}) as graph:
            assert (graph.checkpointer, graph.store) == (SAVER, STORE)
    assert seen == ["ada", "bob"]


async def test_a_saver_or_store_of_the_factorys_own_is_refused_as_ever():
    def own_saver(store, checkpointer):
        return builder().compile(checkpointer=InMemorySaver(), store=store)

    bound = functools.partial(
        lambda store, checkpointer: builder().compile(checkpointer=checkpointer, store=store),
        store=InMemoryStore(),
    )
    for factory, what in ((own_saver, "a checkpointer"), (bound, "a store")):
        with pytest.raises(StartupRefusal, match=f"HR102 .*{what} "):
            await registry_of(factory)


def of_a_model(model): ...
def of_tools(config, tools): ...
def of_a_database(db_pool): ...
def of_memory(memory): ...
def of_a_text(model: "OtherStuff"): ...  # type: ignore[name-defined] # noqa: F821 - that is the case
def of_another_store(store: logging.Logger): ...
def of_too_many(a, b, c): ...


class Yields:
    async def __call__(self, config):
        yield builder()


@pytest.mark.parametrize(
    ("function", "code", "what"),
    [
        (of_a_model, "HR108", "a parameter 'model'"),
        (of_tools, "HR108", "a parameter 'tools'"),
        (of_a_database, "HR108", "a parameter 'db_pool'"),
        (of_memory, "HR108", "a parameter 'memory'"),
        (of_a_text, "HR108", "a parameter 'model'"),
        (of_another_store, "HR108", "a parameter 'store'"),
        (of_too_many, "HR108", "a parameter 'c'"),
        (Yields(), "HR103", "a generator function"),
        (functools.partial(Yields(), config={}), "HR103", "a generator function"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_nobody_can_give_is_refused_at_start(function, code, what):
    with pytest.raises(StartupRefusal, match=f"{code} here: .*{what}"):
        factory_of(function, "here")


def test_a_part_that_is_given_for_its_place_alone_is_told():
    def guessed(first, second): ...

    with capture_logs() as logs:
        factory_of(guessed, "graph 'agent'")
    assert [(line["event"], line["parameter"]) for line in logs] == [
        ("factory_parameter_guessed", "first"),
        ("factory_parameter_guessed", "second"),
    ]


async def test_setup_of_what_is_handed_over_changes_no_schema(database_url):
    """The tutorial's lifespan calls it; the role of a server may not create tables."""
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        store = Store(pool, observe=lambda operation, seconds: None)
        async with pool.connection() as connection:
            await connection.execute("DROP TABLE checkpoint_migrations, store_migrations")
        await saver.setup()
        await store.setup()
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT to_regclass('checkpoint_migrations'), to_regclass('store_migrations')"
            )
            assert await cursor.fetchone() == (None, None)
        await store.close()


async def registry_of(factory: Any) -> GraphRegistry:
    return await GraphRegistry.open(
        sources_from_objects({"agent": factory}), checkpointer=SAVER, store=STORE
    )
