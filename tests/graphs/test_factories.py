"""Functions that make graphs: what they are given, and that what they open is closed again."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Optional, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.runtime import ServerRuntime
from pydantic import BaseModel

from headrace.graphs.factories import factory_of
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from tests.support.apps import app_client, settings_for, write_manifest

STORE = InMemoryStore()
CONFIG: RunnableConfig = {"configurable": {"thread_id": "1", "who": "me"}}


@dataclass
class Settings:
    model: str = "none"


class Model(BaseModel):
    model: str = "none"


class Keys(TypedDict, total=False):
    configurable: dict[str, Any]


def graph(name: str = "n") -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node(name, lambda state: {"messages": []})
    builder.add_edge(START, name)
    return builder


async def registry_of(factory: Any) -> GraphRegistry:
    return await GraphRegistry.open(
        sources_from_objects({"agent": factory}), checkpointer=InMemorySaver(), store=STORE
    )


def of_config(config: RunnableConfig): ...
def of_some_config(anything: dict[str, Any]): ...
def of_a_mapping(anything: Mapping[str, Any]): ...
def of_keys(anything: Keys): ...
def of_anything(anything): ...
def of_runtime(anything: ServerRuntime): ...
def of_typed_runtime(anything: ServerRuntime[Settings]): ...
def of_both(config: RunnableConfig, runtime: ServerRuntime): ...
def of_both_the_other_way(r: ServerRuntime[Settings], c: RunnableConfig): ...
def of_both_by_name(runtime, config): ...
def of_both_by_position(first, second): ...
def of_both_without_names(first, second, /): ...
def of_keywords(*, runtime, config): ...
def of_defaults(config: RunnableConfig | None = None, more: int = 3, *rest, **others): ...
def of_optional(a: Optional[RunnableConfig], b: Annotated[ServerRuntime, "x"]): ...  # noqa: UP045 - people write it so
def of_text(a: "ServerRuntime", b: "RunnableConfig"): ...
def of_what_only_a_checker_knows(config: "Nowhere", runtime: "Nothing"): ...  # type: ignore[name-defined] # noqa: F821 - that is the case
def of_nothing(more: int = 3): ...


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (of_config, ["config"]),
        (of_some_config, ["config"]),
        (of_a_mapping, ["config"]),
        (of_keys, ["config"]),
        (of_anything, ["config"]),
        (of_runtime, ["runtime"]),
        (of_typed_runtime, ["runtime"]),
        (of_both, ["config", "runtime"]),
        (of_both_the_other_way, ["runtime", "config"]),
        (of_both_by_name, ["runtime", "config"]),
        (of_both_by_position, ["config", "runtime"]),
        (of_both_without_names, ["config", "runtime"]),
        (of_keywords, ["runtime", "config"]),
        (of_defaults, ["config"]),
        (of_optional, ["config", "runtime"]),
        (of_text, ["runtime", "config"]),
        (of_what_only_a_checker_knows, ["config", "runtime"]),
        (of_nothing, []),
        (functools.partial(of_both, {}), ["runtime"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_a_factory_takes(function, parts):
    factory = factory_of(function, "here")
    assert factory is not None
    assert list(factory.parameters.values()) == parts
    assert factory.is_per_run is bool(parts)


@pytest.mark.parametrize("form", ["function", "coroutine", "context", "sync context"])
async def test_every_form_is_given_both_and_closed_after_each_use(form):
    log: list[Any] = []

    def begin(config: RunnableConfig, runtime: ServerRuntime) -> StateGraph[Any, Any, Any, Any]:
        log.append((config["configurable"]["who"], runtime.access_context, runtime.store is STORE))
        return graph()

    async def coroutine(config: RunnableConfig, runtime: ServerRuntime) -> Any:
        return begin(config, runtime).compile()

    @asynccontextmanager
    async def context(config: RunnableConfig, runtime: ServerRuntime) -> AsyncIterator[Any]:
        yield begin(config, runtime)
        log.append("closed")

    @contextmanager
    def sync_context(config: RunnableConfig, runtime: ServerRuntime) -> Iterator[Any]:
        yield begin(config, runtime)
        log.append("closed")

    factories = {
        "function": begin,
        "coroutine": coroutine,
        "context": context,
        "sync context": sync_context,
    }
    registry = await registry_of(factories[form])
    async with registry.for_run("agent", CONFIG, access="threads.create_run") as made:
        assert await made.ainvoke({"messages": []}, CONFIG) == {"messages": []}
        assert "closed" not in log
    async with registry.for_run("agent", CONFIG):
        pass
    closed = ["closed"] if "context" in form else []
    assert log == [
        ("me", "threads.create_run", True),
        *closed,
        ("me", "threads.read", True),
        *closed,
    ]


@pytest.mark.parametrize(
    ("annotation", "context"),
    [
        (ServerRuntime[Settings], Settings("large")),
        (ServerRuntime[Model], Model(model="large")),
        (ServerRuntime[dict], {"model": "large", "unknown": 1}),
        (ServerRuntime, {"model": "large", "unknown": 1}),
    ],
)
async def test_what_is_executed_has_its_context_and_what_is_read_has_none(annotation, context):
    seen = []

    def make(runtime):
        executed = runtime.execution_runtime
        seen.append(executed.context if executed is not None else "read")
        return graph()

    make.__annotations__ = {"runtime": annotation}
    registry = await registry_of(make)
    given = {"model": "large", "unknown": 1}
    async with registry.for_run("agent", {}, access="threads.create_run", context=given):
        pass
    async with registry.for_run("agent", {}, access="assistants.read", context=given):
        pass
    assert seen == [context, "read"]


@pytest.mark.parametrize("how", ["raised", "cancelled"])
async def test_what_a_factory_opened_is_closed_however_the_run_ends(how):
    log = []

    @asynccontextmanager
    async def make(config):
        try:
            yield graph()
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        finally:
            log.append("closed")

    registry = await registry_of(make)
    entered = asyncio.Event()

    async def run() -> None:
        async with registry.for_run("agent", {}):
            entered.set()
            if how == "raised":
                raise ValueError
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await entered.wait()
    if how == "cancelled":
        task.cancel()
    await asyncio.wait({task})
    assert log == [{"raised": "ValueError", "cancelled": "CancelledError"}[how], "closed"]


async def test_factories_and_entrypoints_over_http(database_url, tmp_path):
    manifest = write_manifest(tmp_path, described="a graph that is made for each run")
    async with app_client(settings_for(database_url, manifest)) as client:
        assistant = (await client.get("/assistants/with_runtime")).json()
        assert assistant["description"] == "a graph that is made for each run"
        schemas = (await client.get("/assistants/with_runtime/schemas")).json()
        assert "made_for" in schemas["state_schema"]["properties"]

        thread = (await client.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "with_runtime", "input": {}, "context": {"model_name": "large"}}
        answer = await client.post(f"/threads/{thread}/runs/wait", json=body)
        assert answer.json() == {"made_for": "threads.create_run large"}
        state = (await client.get(f"/threads/{thread}/state")).json()
        assert (state["values"], state["next"]) == (answer.json(), [])

        body = {"assistant_id": "workflow", "input": {"number": 4}}
        other = (await client.post("/threads", json={})).json()["thread_id"]
        answer = await client.post(f"/threads/{other}/runs/wait", json=body)
        assert answer.json() == {"doubled": 8}
        assert (await client.get(f"/threads/{other}/state")).json()["values"] == {"doubled": 8}
        assert (await client.get("/assistants/workflow/schemas")).json()["input_schema"]

        # What a factory cannot make without a run's configuration is read as it is stored.
        body = {"assistant_id": "picky", "input": {}, "config": {"configurable": {"node": "n"}}}
        third = (await client.post("/threads", json={})).json()["thread_id"]
        answer = await client.post(f"/threads/{third}/runs/wait", json=body)
        assert answer.json() == {"made_for": "n"}
        state = (await client.get(f"/threads/{third}/state")).json()
        assert state["values"] == {"made_for": "n"}

    # What is said of a graph follows the manifest, in a version of its own.
    manifest = write_manifest(tmp_path, described="something else")
    async with app_client(settings_for(database_url, manifest)) as client:
        assistant = (await client.get("/assistants/with_runtime")).json()
        assert (assistant["description"], assistant["version"]) == ("something else", 2)
        assert (await client.get("/assistants/ctx")).json()["version"] == 1
        versions = await client.post(f"/assistants/{assistant['assistant_id']}/versions", json={})
        assert [one["version"] for one in versions.json()] == [2, 1]


async def test_a_cancelled_run_leaves_what_its_factory_opened(database_url, tmp_path):
    journal = tmp_path / "journal"
    manifest = write_manifest(tmp_path)
    async with app_client(settings_for(database_url, manifest)) as client:
        body = {
            "assistant_id": "stuck",
            "input": {},
            "config": {"configurable": {"journal": str(journal)}},
        }
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        run = (await client.post(f"/threads/{thread}/runs", json=body)).json()["run_id"]
        while not journal.exists():
            await asyncio.sleep(0.01)
        answer = await client.post(f"/threads/{thread}/runs/{run}/cancel?wait=1")
        assert answer.status_code == 200
        assert journal.read_text() == "running closed"
