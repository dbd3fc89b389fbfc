"""Schemas of states as people write them."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from headrace.graphs.json_schemas import graph_schemas


class Todo(TypedDict):
    text: str
    below: "list[Todo]"


class Retriever:
    """No schema can be made of it."""


class State(TypedDict):
    todos: Annotated[list[Todo], operator.add]
    chosen: Todo | None
    named: dict[str, Todo]
    mode: Literal["a", "b"]
    maybe: NotRequired[Optional[int]]  # noqa: UP045 - as people write it
    retriever: Retriever
    call: Callable[[int], str]


def schemas_of(state: Any, **more: Any) -> dict[str, Any]:
    builder: Any = StateGraph(state, **more)
    builder.add_node("n", lambda state: state)
    builder.add_edge(START, "n")
    return graph_schemas(builder.compile())


def test_a_field_that_cannot_be_described_costs_no_other():
    schema = schemas_of(State)["state_schema"]
    assert set(schema["properties"]) == set(State.__annotations__)
    assert schema["properties"]["retriever"] == {"title": "Retriever"}
    assert schema["properties"]["mode"]["enum"] == ["a", "b"]
    assert schema["properties"]["todos"]["items"]["$ref"].startswith("#/$defs/")
    todos = [one for name, one in schema["$defs"].items() if name.startswith("Todo")]
    assert todos[0]["properties"]["text"]["type"] == "string"
    assert schema["required"] == [
        "todos",
        "chosen",
        "named",
        "mode",
        "retriever",
        "call",
    ]


def test_models_and_dataclasses_describe_themselves():
    class Model(BaseModel):
        count: int = 3

    @dataclass
    class Config:
        name: str = "x"

    found = schemas_of(Model, context_schema=Config)
    assert found["input_schema"]["properties"]["count"]["default"] == 3
    assert found["context_schema"]["properties"]["name"]["default"] == "x"
    assert found["config_schema"] == found["context_schema"]


def test_a_function_as_a_graph_has_schemas_too():
    @entrypoint()
    def work(number: int) -> str:
        return str(number)

    found: Any = graph_schemas(work)
    assert found["input_schema"]["type"] == "integer"
    assert found["output_schema"]["type"] == "string"
