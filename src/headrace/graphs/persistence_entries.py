"""``checkpointer`` and ``store`` of ``langgraph.json``: types to read back, and times to live."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headrace.graphs.index_entry import IndexEntry
from headrace.retention_settings import LONGEST_MINUTES, RetentionSettings

if TYPE_CHECKING:
    # Every command reads the manifest. This import would take a fifth of its start.
    from langgraph.store.base import TTLConfig


class TtlEntry(BaseModel):
    """``checkpointer.ttl``, in minutes. A thread with a time to live of its own uses that."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: float | None = Field(None, gt=0, le=LONGEST_MINUTES)
    sweep_interval_minutes: float = Field(5.0, gt=0, le=LONGEST_MINUTES)
    sweep_limit: int = Field(1000, ge=1)

    def under(self, settings: RetentionSettings) -> "TtlEntry":
        """The entry. A setting that is set replaces its field."""
        return TtlEntry(
            strategy=settings.thread_strategy or self.strategy,
            default_ttl=minutes_under(settings.thread_minutes, self.default_ttl),
            sweep_interval_minutes=settings.sweep_minutes or self.sweep_interval_minutes,
            sweep_limit=settings.sweep_limit or self.sweep_limit,
        )


def minutes_under(setting: float | None, entry: float | None) -> float | None:
    """The setting in minutes, or None (for ever) if it is 0; the entry if there is no setting."""
    return entry if setting is None else setting or None


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
    """The types that are made again when checkpoints are read, besides LangGraph's own.

    ``True``: every type. None: those that the states of the graphs declare, in JSON none.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    allowed_json_modules: TypeNames = None
    allowed_msgpack_modules: TypeNames = None
    #: Refused.
    pickle_fallback: bool = False


class CheckpointerEntry(BaseModel):
    """``checkpointer`` of a manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    serde: Annotated[SerdeEntry, BeforeValidator(lambda value: value or {})] = Field(
        default_factory=SerdeEntry
    )
    ttl: TtlEntry | None = None
    #: A checkpointer of the user's, which is refused.
    path: str | None = None


_SWEEP_MINUTES = 5.0


def _sweeping(minutes: Any) -> Any:
    return _SWEEP_MINUTES if minutes is None else minutes


class StoreTTL(BaseModel):
    """``store.ttl``, in minutes. ``default_ttl`` is for items without a ttl."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    default_ttl: float | None = Field(None, gt=0, le=LONGEST_MINUTES)
    refresh_on_read: bool = True
    sweep_interval_minutes: Annotated[
        float, Field(gt=0, le=LONGEST_MINUTES), BeforeValidator(_sweeping)
    ] = _SWEEP_MINUTES

    def under(self, settings: RetentionSettings) -> "StoreTTL":
        """The entry. A setting that is set replaces its field."""
        refresh = settings.store_refresh_on_read
        return StoreTTL(
            default_ttl=minutes_under(settings.store_minutes, self.default_ttl),
            refresh_on_read=self.refresh_on_read if refresh is None else refresh,
            sweep_interval_minutes=settings.sweep_minutes or self.sweep_interval_minutes,
        )

    def as_config(self) -> "TTLConfig":
        """The form that stores need. Reads leave expired items out before they are deleted."""
        return {
            "default_ttl": self.default_ttl,
            "refresh_on_read": self.refresh_on_read,
            "omit_expired": True,
        }


def _stated(ttl: Any) -> Any:
    return {} if ttl is None else ttl


class StoreEntry(BaseModel):
    """``store`` of a manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ttl: Annotated[StoreTTL, BeforeValidator(_stated)] = StoreTTL()
    index: Annotated[IndexEntry | None, BeforeValidator(lambda value: value or None)] = None
