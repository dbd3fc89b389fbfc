"""The context of a run as its graph's schema takes it."""

from dataclasses import fields, is_dataclass
from typing import Any

from langgraph.pregel import Pregel
from pydantic import BaseModel


def known_context(
    graph: Pregel[Any, Any, Any, Any], context: dict[str, Any]
) -> dict[str, Any] | None:
    """What a graph is given of ``context``; None when there is nothing.

    Context and configurable are one thing on the wire, and the latter holds what other graphs of an
    assistant want, or a client sends to all. A dataclass or model would refuse what it does not
    know, and with it the run.
    """
    known = _names(getattr(graph, "context_schema", None))
    if known is not None:
        context = {key: value for key, value in context.items() if key in known}
    return context or None


def as_context(schema: Any, context: dict[str, Any]) -> Any:
    """``context`` as an object of ``schema``, where that is a dataclass or a model."""
    known = _names(schema)
    if known is None and not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return context
    if known is not None:
        context = {key: value for key, value in context.items() if key in known}
    return schema(**context)


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
