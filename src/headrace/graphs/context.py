"""The context of a run, in the form of the graph's context schema."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, is_typeddict

from langgraph.pregel import Pregel
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def known_context(
    graph: Pregel[Any, Any, Any, Any], context: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The part of ``context`` that the graph's context schema knows.

    The API treats context and configurable as one, and configurable may have keys for other graphs.
    A dataclass or model would refuse unknown keys, and the run would fail. An empty context creates
    a dataclass or model with its defaults; a graph with another schema, or none, gets None.
    """
    schema = getattr(graph, "context_schema", None)
    known = _names(schema)
    given = {key: value for key, value in context.items() if known is None or key in known}
    return given if given or _is_made(schema) else None


def as_context(schema: Any, context: Mapping[str, Any]) -> Any:
    """``context`` as an object of ``schema``, if that is a dataclass or model; else as a dict."""
    if not _is_made(schema):
        return dict(context)
    known = _names(schema)
    return schema(**{key: value for key, value in context.items() if known is None or key in known})


def missing_names(schema: Any, context: Mapping[str, Any]) -> list[str]:
    """Required fields of the schema that ``context`` does not have. Runs no code of the user."""
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


def named_fields(schema: Any) -> frozenset[str]:
    """The fields that the schema names; none where it is no dataclass, model or typed dict."""
    if not isinstance(schema, type):
        return frozenset()
    if is_typeddict(schema):
        return frozenset(schema.__annotations__)
    names = _names(schema)
    if names is None:
        # A model that accepts other fields too, or a class of another kind.
        names = set(getattr(schema, "model_fields", ()))
    return frozenset(names)


def _is_made(schema: Any) -> bool:
    """Whether LangGraph creates an object of the schema: a dataclass or a pydantic model."""
    return isinstance(schema, type) and (is_dataclass(schema) or issubclass(schema, BaseModel))


def _needed(field: "Field[Any]") -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _given(name: str, field: FieldInfo, context: Mapping[str, Any]) -> bool:
    alias = field.validation_alias
    if alias is not None and not isinstance(alias, str):
        # Paths and choices of keys: only pydantic can tell, when the run begins.
        return True
    return any(one in context for one in (name, field.alias, alias) if one is not None)


def _names(schema: Any) -> set[str] | None:
    """The keys that the schema accepts; None if it accepts all."""
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
            # Paths and choices of keys: only pydantic can tell.
            return None
        names |= {
            alias for alias in (field.alias, field.validation_alias) if isinstance(alias, str)
        }
    return names
