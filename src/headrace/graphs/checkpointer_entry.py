"""``checkpointer`` of ``langgraph.json``: how values are read back, and how long they are kept."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headrace.graphs.manifest_ttl import TtlEntry


def _dotted(value: Any) -> Any:
    """``["package", "module", "Type"]`` is ``("package.module", "Type")``."""
    if isinstance(value, str):
        value = value.replace(":", ".").split(".")
    if isinstance(value, list | tuple):
        parts = [part for word in value for part in str(word).split(".")]
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise ValueError(f'{value!r} is not of the form ["package", "module", "Type"]')
        return (".".join(parts[:-1]), parts[-1])
    return value


def _nothing_for_false(value: Any) -> Any:
    return () if value is False else value


TypeName = Annotated[tuple[str, str], BeforeValidator(_dotted)]


TypeNames = Annotated[
    tuple[TypeName, ...] | Literal[True] | None, BeforeValidator(_nothing_for_false)
]


class SerdeEntry(BaseModel):
    """Which types are made again from what checkpoints hold.

    ``True`` is every type; without a word, what LangGraph does by itself.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    allowed_json_modules: TypeNames = None
    allowed_msgpack_modules: TypeNames = None
    pickle_fallback: bool = False


class CheckpointerEntry(BaseModel):
    """What a manifest says of checkpoints."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    serde: Annotated[SerdeEntry, BeforeValidator(lambda value: value or {})] = Field(
        default_factory=SerdeEntry
    )
    ttl: TtlEntry | None = None
    #: Of a checkpointer of one's own, which there cannot be.
    path: str | None = None
