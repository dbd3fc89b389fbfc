"""The context of a run as its graph's schema takes it."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from langgraph.pregel import Pregel
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def known_context(
    graph: Pregel[Any, Any, Any, Any], context: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a graph is given of ``context``.

    Context and configurable are one thing on the wire, and the latter holds what other graphs of an
    assistant want, or a client sends to all. A dataclass or model would refuse what it does not
    know, and with it the run. An empty context makes one with the schema's own defaults; a graph
    with another schema, or with none, is given None then.
    """
    schema = getattr(graph, "context_schema", None)
    known = _names(schema)
    given = {key: value for key, value in context.items() if known is None or key in known}
    return given if given or _is_made(schema) else None


def as_context(schema: Any, context: Mapping[str, Any]) -> Any:
    """``context`` as an object of ``schema``, where that is a dataclass or a model."""
    if not _is_made(schema):
        return dict(context)
    known = _names(schema)
    return schema(**{key: value for key, value in context.items() if known is None or key in known})


def missing_names(schema: Any, context: Mapping[str, Any]) -> list[str]:
    """Fields that the schema needs and ``context`` has not; none of the user's code runs for it."""
    if isinstance(schema, type) and is_dataclass(schema):
        needed = [field.name for field in fields(schema) if _needed(field)]
        return [name for name in needed if name not in context]
    if not isinstance(schema, type) or not issubclass(schema, BaseModel):
        return []
    return [
        name
        for name, field in schema.model_fields.items()
        if field.is_required() and not _given(name, field, context)
    ]


def _is_made(schema: Any) -> bool:
    """Whether LangGraph makes an object of the schema: a dataclass, or a model of pydantic."""
    return isinstance(schema, type) and (is_dataclass(schema) or issubclass(schema, BaseModel))


def _needed(field: "Field[Any]") -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _given(name: str, field: FieldInfo, context: Mapping[str, Any]) -> bool:
    alias = field.validation_alias
    if alias is not None and not isinstance(alias, str):
        # Paths and choices of keys: pydantic alone knows, when the run begins.
        return True
    return any(one in context for one in (name, field.alias, alias) if one is not None)


def _names(schema: Any) -> set[str] | None:
    """The keys that the schema takes; None when it takes any."""
    if not isinstance(schema, type):
        return None
    if is_dataclass(schema):
        return {field.name for field in fields(schema) if field.init}
    if not issubclass(schema, BaseModel) or schema.model_config.get("extra") == "allow":
        return None
    return _model_names(schema)


def _model_names(schema: type[BaseModel]) -> set[str] | None:
    names = set(schema.model_fields)
    for field in schema.model_fields.values():
        if field.validation_alias is not None and not isinstance(field.validation_alias, str):
            # Paths and choices of keys: pydantic alone knows.
            return None
        names |= {
            alias for alias in (field.alias, field.validation_alias) if isinstance(alias, str)
        }
    return names
