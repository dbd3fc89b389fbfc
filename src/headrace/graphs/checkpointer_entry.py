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


TypeName = Annotated[tuple[str, str], BeforeValidator(_dotted)]


class SerdeEntry(BaseModel):
    """Which types are made again from what checkpoints hold.

    ``True`` is every type; without a word, what LangGraph does by itself.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    allowed_json_modules: tuple[TypeName, ...] | Literal[True] | None = None
    allowed_msgpack_modules: tuple[TypeName, ...] | Literal[True] | None = None
    pickle_fallback: bool = False


class CheckpointerEntry(BaseModel):
    """What a manifest says of checkpoints."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    serde: SerdeEntry = Field(default_factory=SerdeEntry)
    ttl: TtlEntry | None = None
    #: Of a checkpointer of one's own, which there cannot be.
    path: str | None = None
