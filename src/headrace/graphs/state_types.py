"""The types that the state of a graph declares.

A checkpoint of the graph may hold values of them, so a later run must be able to make them again.
A type that only stands behind ``Any``, a base class, or a list without its item's type is not seen.
"""

import dataclasses
import types as builtin_types
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from weakref import WeakSet

from langgraph.pregel import Pregel
from pydantic import BaseModel

from headrace.checkpoints.allowed_types import AllowedTypes, TypeKey, listing, shown
from headrace.errors import StartupRefusal
from headrace.graphs.sources import GraphSource

Graph = Pregel[Any, Any, Any, Any]

#: A refusal names at most so many types.
_MAX_NAMED = 10
_MAX_SEARCHED = 1000
_OLD_MODELS = "pydantic.v1.main"


class StateTypes:
    """Declares the types of each graph that is made. A graph may be made for every run."""

    def __init__(self, allowed: AllowedTypes) -> None:
        self._allowed = allowed
        #: Schemas that were declared; a factory may make new ones in every call.
        self._known: WeakSet[type] = WeakSet()
        #: Graphs whose subgraphs were looked for, by their name and their nodes.
        self._searched: set[tuple[str, ...]] = set()

    def declare(self, source: GraphSource, graph: Graph) -> None:
        """
        :raises StartupRefusal: HR128 the operator's list lacks a type.
        """
        key = (source.graph_id, *graph.nodes)
        graphs = [graph]
        if key not in self._searched:
            graphs += [
                one for _, one in graph.get_subgraphs(recurse=True) if isinstance(one, Pregel)
            ]
        found: set[TypeKey] = set()
        for schema in {id(one): one for part in graphs for one in _schemas(part)}.values():
            if isinstance(schema, type) and schema in self._known:
                continue
            found |= declared_types(schema)
            if isinstance(schema, type):
                self._known.add(schema)
        if missing := self._allowed.declare(found):
            self._known.clear()
            raise _not_listed(source.where, missing)
        if len(self._searched) < _MAX_SEARCHED:
            self._searched.add(key)


def declared_types(schema: Any) -> set[TypeKey]:
    """The models, dataclasses, enums, named tuples and secrets of pydantic in a type, and in the
    types of its fields.
    """
    found: set[TypeKey] = set()
    seen: set[int] = set()
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, type) and _has_form(one):
            found.add((one.__module__, one.__name__))
        waiting.extend(_inside(one))
    return found


def _schemas(graph: Graph) -> Iterator[Any]:
    """The types that the checkpoints of a graph are made of."""
    builder = getattr(graph, "builder", None)
    if builder is not None:
        yield builder.state_schema
        yield builder.input_schema
        yield builder.output_schema
        for node in builder.nodes.values():
            yield node.input_schema
    for channel in graph.channels.values():
        for name in ("ValueType", "UpdateType"):
            yield getattr(channel, name, None)


def _has_form(kind: type) -> bool:
    """Whether LangGraph stores its values with the name of the type."""
    if kind in (BaseModel, Enum):
        return False
    return (
        issubclass(kind, BaseModel | Enum)
        or dataclasses.is_dataclass(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_asdict"))
        # pydantic's SecretStr and SecretBytes.
        or hasattr(kind, "get_secret_value")
        or any(base.__module__ == _OLD_MODELS for base in kind.__mro__[1:])
    )


def _inside(one: Any) -> Iterable[Any]:
    """The types that a type names."""
    if get_origin(one) is Literal:
        return ()
    if hasattr(one, "__value__") and not isinstance(one, type):
        return (one.__value__,)  # type X = ...
    if isinstance(one, TypeVar):
        return (one.__bound__, *one.__constraints__)
    if hasattr(one, "__supertype__"):
        return (one.__supertype__,)
    if isinstance(one, type) and not isinstance(one, builtin_types.GenericAlias):
        return _field_types(one)
    return (get_origin(one), *(part for part in get_args(one) if not isinstance(part, str)))


def _field_types(kind: type) -> Iterable[Any]:
    if issubclass(kind, BaseModel):
        return [field.annotation for field in kind.model_fields.values()]
    # Only a TypedDict has ``__total__``; there are two kinds of them.
    if not (hasattr(kind, "__total__") or _has_form(kind)) or issubclass(kind, Enum):
        return ()
    try:
        hints: Mapping[str, Any] = get_type_hints(kind)
    except (NameError, AttributeError, TypeError, SyntaxError):
        # A name that only a type checker imports. The run that stores such a value warns.
        return ()
    return hints.values()


def _not_listed(where: str, missing: list[TypeKey]) -> StartupRefusal:
    named = missing[:_MAX_NAMED]
    return StartupRefusal(
        "HR128",
        where=where,
        what=f"its state has values of {', '.join(map(shown, named))}, and"
        " checkpointer.serde.allowed_msgpack_modules does not list"
        f" {'it' if len(named) == 1 else 'them'}",
        remedy=f"Add {listing(named)} to it in langgraph.json, or take the list out: then the types"
        " that states declare are allowed.",
    )
