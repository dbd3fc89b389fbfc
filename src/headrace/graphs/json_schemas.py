"""JSON schemas of the input, output, state and context of graphs.

pydantic alone is not enough: before Python 3.12 it refuses ``typing.TypedDict``, the usual form of
a state, and one field of an unknown class makes the whole schema fail.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import typing_extensions
from langgraph.channels.base import BaseChannel
from langgraph.pregel import Pregel
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

Schema = dict[str, Any]

#: Errors of pydantic and ``typing`` for types without a schema.
UNDESCRIBABLE = (PydanticUserError, PydanticUndefinedAnnotation, NameError, TypeError, ValueError)


def graph_schemas(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Schema | None]:
    """The five schemas that clients know; None for one that cannot be derived."""
    builder = getattr(graph, "builder", None)
    context = _described(getattr(graph, "context_schema", None))
    if builder is None:
        schemas = {
            "input_schema": _asked(graph.get_input_jsonschema),
            "output_schema": _asked(graph.get_output_jsonschema),
            "state_schema": _of_channels(graph),
        }
    else:
        schemas = {
            "input_schema": _described(builder.input_schema),
            "output_schema": _described(builder.output_schema),
            "state_schema": _described(builder.state_schema),
        }
    # ``configurable`` is the older name of the context.
    return {**schemas, "config_schema": context or {}, "context_schema": context}


def _asked(schema: Any) -> Schema | None:
    try:
        asked: Schema = schema()
    except UNDESCRIBABLE:
        return None
    return asked


def _of_channels(graph: Pregel[Any, Any, Any, Any]) -> Schema | None:
    names = [name for name in graph.stream_channels_list if name in graph.channels]
    channels = {name: graph.channels[name] for name in names}
    types = {
        name: channel.ValueType
        for name, channel in channels.items()
        if isinstance(channel, BaseChannel)
    }
    return _of_fields(graph.get_name("State"), types, required=())


def _described(kind: Any) -> Schema | None:
    if kind is None:
        return None
    try:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind.model_json_schema()
        if is_typeddict(kind):
            hints = get_type_hints(kind, include_extras=True)
            return _of_fields(kind.__name__, hints, required=kind.__required_keys__)
        described: Schema = TypeAdapter(kind).json_schema()
    except UNDESCRIBABLE:
        return _of_dataclass(kind) if is_dataclass(kind) else None
    return described


def _of_dataclass(kind: Any) -> Schema | None:
    try:
        return _of_fields(kind.__name__, get_type_hints(kind, include_extras=True), required=())
    except UNDESCRIBABLE:
        return None


def _of_fields(title: str, hints: Mapping[str, Any], *, required: Any) -> Schema:
    """An object with these fields. A field without a schema may have any value."""
    adapters = {name: adapter for name, kind in hints.items() if (adapter := _adapter(kind))}
    inputs = [(name, "validation", adapter) for name, adapter in adapters.items()]
    found, definitions = TypeAdapter.json_schemas(inputs)  # type: ignore[arg-type] # a list of str
    properties = {
        name: {"title": name.replace("_", " ").title(), **found.get((name, "validation"), {})}
        for name in hints
    }
    schema: Schema = {**definitions, "title": title, "type": "object", "properties": properties}
    if needed := [name for name in hints if name in required]:
        schema["required"] = needed
    return schema


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(_rebuilt(kind, frozenset()))
        adapter.json_schema()
    except UNDESCRIBABLE:
        return None
    return adapter


def _rebuilt(kind: Any, around: frozenset[Any]) -> Any:
    """The type, with each ``TypedDict`` in it replaced by one that pydantic accepts.

    :param around: the enclosing types. A type inside itself may have any value.
    """
    if is_typeddict(kind):
        if kind in around:
            return Any
        hints = get_type_hints(kind, include_extras=True)
        fields = {name: _rebuilt(hint, around | {kind}) for name, hint in hints.items()}
        return typing_extensions.TypedDict(kind.__name__, fields, total=kind.__total__)  # type: ignore[operator] # made from values
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is None or not arguments or origin is typing_extensions.Literal:
        return kind
    if origin is Annotated:
        return Annotated[(_rebuilt(arguments[0], around), *kind.__metadata__)]
    rebuilt = tuple(
        _rebuilt(one, around) if not isinstance(one, list) else one for one in arguments
    )
    if origin in (Union, UnionType):
        return reduce(or_, rebuilt) if origin is UnionType else Union[rebuilt]  # noqa: UP007
    if rebuilt == arguments:
        return kind
    return kind.copy_with(rebuilt) if hasattr(kind, "copy_with") else origin[rebuilt]
