"""Runs on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.db.tables import RunRow
from headrace.events.modes import StreamMode
from headrace.threads.schemas import AnyThreadId

#: A year.
MAX_AFTER_SECONDS = 366 * 24 * 3600.0

RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback"]


def _as_list(value: Any) -> Any:
    if value is None:
        return ["values"]
    if isinstance(value, list):
        return value or ["values"]
    return [value]


def _values_only() -> list[StreamMode]:
    return ["values"]


StreamModes = Annotated[list[StreamMode], BeforeValidator(_as_list)]


class Command(BaseModel):
    """What to do instead of starting from an input."""

    model_config = ConfigDict(extra="ignore")

    resume: Any = None
    update: dict[str, Any] | list[Any] | None = None
    goto: Any = None


class RunCreate(BaseModel):
    """What to run, on what, and how. Unknown fields are ignored: clients are newer than servers."""

    model_config = ConfigDict(extra="ignore")

    assistant_id: str = Field(min_length=1, max_length=255)
    input: Any = None
    command: Command | None = None
    config: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    stream_mode: StreamModes = Field(default_factory=_values_only)
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    interrupt_before: list[str] | Literal["*"] | None = None
    interrupt_after: list[str] | Literal["*"] | None = None
    checkpoint: dict[str, Any] | None = None
    checkpoint_id: str | None = None
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    multitask_strategy: MultitaskStrategy | None = None
    if_not_exists: Literal["create", "reject"] | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    after_seconds: float | None = Field(None, ge=0, le=MAX_AFTER_SECONDS)


class RunsCancel(BaseModel):
    """Which runs to stop: those named on a thread, or all of a status."""

    model_config = ConfigDict(extra="ignore")

    thread_id: AnyThreadId | None = None
    run_ids: list[UUID] | None = Field(None, min_length=1, max_length=1000)
    status: Literal["pending", "running", "all"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "RunsCancel":
        if (self.run_ids is None) == (self.status is None):
            raise ValueError("send either thread_id with run_ids, or status")
        if self.run_ids is not None and self.thread_id is None:
            raise ValueError("run_ids need their thread_id")
        return self


RunField = Literal[
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
]


def shown_status(row: RunRow) -> RunStatus | None:
    """The status that callers see; None of a run that is being rolled back.

    A run that was asked to stop ends as ``interrupted``, however long its graph takes to stop.
    """
    if row.ended_at is not None or row.cancel_action is None:
        return cast("RunStatus", row.status)
    return None if row.cancel_action == "rollback" else "interrupted"


class Run(BaseModel):
    """One execution of an assistant on a thread."""

    model_config = ConfigDict(extra="forbid")

    run_id: UUID
    thread_id: str
    assistant_id: UUID
    metadata: dict[str, Any]
    status: RunStatus
    kwargs: dict[str, Any]
    multitask_strategy: MultitaskStrategy
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: RunRow) -> "Run":
        """As callers see it: a run that was asked to stop is ``interrupted`` from then on."""
        return cls(
            run_id=row.run_id,
            thread_id=row.thread_id,
            assistant_id=row.assistant_id,
            metadata=row.metadata_,
            status=shown_status(row) or "interrupted",
            kwargs=row.kwargs,
            multitask_strategy=cast("MultitaskStrategy", row.multitask_strategy),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
