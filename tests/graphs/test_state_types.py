"""Which types the state of a graph declares, and that a run may read them."""

import collections.abc
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import pydantic
import pydantic.v1
import pytest
import typing_extensions
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeChatModel as FakeChat
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.memory import InMemoryStore

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.errors import StartupRefusal
from headrace.graphs.chat import build_chat
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from headrace.graphs.state_types import declared_types

HERE = __name__


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    colour: Colour


@dataclass
class Deep:
    again: "Deep | None"
    pair: Pair


class Model(pydantic.BaseModel):
    deep: collections.abc.Mapping[str, collections.abc.Sequence[Deep]]


class Old(pydantic.v1.BaseModel):
    x: int


Named = NewType("Named", Old)
T = TypeVar("T", bound=Model)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    models: NotRequired[tuple[Model, ...]]
    plain: dict[str, int | None]
    word: Literal["a", "b"]
    unknown: Any


class Extended(typing_extensions.TypedDict):
    old: typing_extensions.NotRequired[Named]
    bound: T  # type: ignore[valid-type]


class WithSecrets(TypedDict):
    key: pydantic.SecretStr | None
    keys: list[pydantic.SecretBytes]


def test_secrets_of_pydantic_are_declared():
    assert declared_types(WithSecrets) == {
        ("pydantic.types", "SecretStr"),
        ("pydantic.types", "SecretBytes"),
    }


def names(schema):
    return {name for module, name in declared_types(schema) if module == HERE}


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (State, {"Model", "Deep", "Pair", "Colour"}),
        (Extended, {"Old", "Model", "Deep", "Pair", "Colour"}),
        (Model, {"Model", "Deep", "Pair", "Colour"}),
        (Colour | None, {"Colour"}),
        (dict, set()),
        (Any, set()),
        (None, set()),
    ],
)
def test_the_types_of_a_schema(schema, found):
    assert names(schema) == found


def test_no_base_class_of_a_library_is_declared():
    assert ("pydantic.main", "BaseModel") not in declared_types(list[pydantic.BaseModel])
    assert ("enum", "Enum") not in declared_types(list[enum.Enum])


class Inner(TypedDict):
    deep: Deep


class Arg(TypedDict):
    old: Old


class Plain(TypedDict):
    word: str


def graph_of(schema, node=lambda state: {}, **more):
    builder = StateGraph(schema)
    builder.add_node("node", node, **more)
    builder.set_entry_point("node")
    return builder


async def opened(graph, types):
    return await GraphRegistry.open(
        sources_from_objects({"agent": graph}),
        checkpointer=InMemorySaver(),
        store=InMemoryStore(),
        types=types,
    )


async def test_subgraphs_and_inputs_of_nodes_declare_too():
    for graph, name in (
        (graph_of(Plain, graph_of(Inner).compile()), "Deep"),
        (graph_of(Plain, input_schema=Arg), "Old"),
        (graph_of(Plain, lambda state: {}).compile(), None),
    ):
        types = AllowedTypes()
        await opened(graph, types)
        assert name is None or types.allows(HERE, name)
        assert not types.allows(HERE, "Model")


async def test_a_graph_that_is_made_for_each_run_declares_then():
    def make(config: RunnableConfig):
        return graph_of(Inner if config["configurable"].get("inner") else Plain)

    types = AllowedTypes()
    registry = await opened(make, types)
    async with registry.for_run("agent", {"configurable": {}}):
        assert not types.allows(HERE, "Deep")
    async with registry.for_run("agent", {"configurable": {"inner": True}}):
        assert types.allows(HERE, "Deep")


async def test_a_list_that_lacks_a_type_refuses_the_graph_each_time():
    def make(config: RunnableConfig):
        return graph_of(Inner)

    registry = await opened(make, AllowedTypes([(HERE, "Deep")]))
    for _ in range(2):
        with pytest.raises(StartupRefusal) as refused:
            async with registry.for_run("agent", {"configurable": {}}):
                pass
        assert refused.value.code == "HR128"
        assert f'["{HERE}", "Pair"]' in str(refused.value)


async def test_what_langchain_declares_is_safe_already():
    for graph in (graph_of(MessagesState), build_chat(""), create_agent(FakeChat(), [])):
        await opened(graph, AllowedTypes([]))


async def test_a_list_of_all_types_and_a_complete_list_are_served():
    await opened(graph_of(Inner), AllowedTypes(True))
    listed = [(HERE, name) for name in ("Deep", "Pair", "Colour")]
    await opened(graph_of(Inner), AllowedTypes(listed))
    await opened(graph_of(Inner), AllowedTypes(listed[:1], more=listed[1:]))
