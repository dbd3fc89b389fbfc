"""Runs in requests and answers."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from headrace.db.tables import RunRow
from headrace.errors import InvalidRequest
from headrace.events.modes import StreamMode
from headrace.graphs.commands import GraphCommand
from headrace.graphs.configuration import RunConfig
from headrace.threads.schemas import AnyThreadId

#: The longest delay and deadline of a run.
YEAR_SECONDS = 366 * 24 * 3600.0

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


#: There are fewer modes, but a client may name one twice.
_MAX_MODES = 32
_MAX_NODES = 1000

StreamModes = Annotated[
    Annotated[list[StreamMode], Field(max_length=_MAX_MODES, fail_fast=True)],
    BeforeValidator(_as_list),
]
NodeName = Annotated[str, Field(max_length=1000)]
NodeNames = Annotated[list[NodeName], Field(max_length=_MAX_NODES, fail_fast=True)]

#: Fields that are refused, and why; an empty value is accepted.
_ABSENT = {
    "feedback_keys": "headrace makes no feedback links of LangSmith; leave it out",
    "langsmith_tracer": (
        "headrace does not choose a LangSmith project per run; LANGSMITH_PROJECT does for the"
        " server"
    ),
}


def _absent(value: Any, info: ValidationInfo) -> None:
    if value:
        raise ValueError(_ABSENT[str(info.field_name)])


Absent = Annotated[Any, AfterValidator(_absent)]

#: Characters of the reason for a cancel.
_MAX_NOTE = 200


def _one_line(value: str | None) -> str | None:
    if value and not value.isprintable():
        raise ValueError("send one line of printable text")
    return value or None


#: Why a run is cancelled, in the words of the caller.
StopNote = Annotated[Annotated[str, Field(max_length=_MAX_NOTE)] | None, AfterValidator(_one_line)]

#: Characters of a URL; the policy of webhooks may allow fewer.
_MAX_URL = 16_384

_DURABILITIES = {True: ("sync", "async"), False: ("exit",)}


class RunCreate(BaseModel):
    """What to run, on which input, and how.

    Unknown fields are ignored: a client may be newer than the server. Fields that other servers
    know and headrace lacks are refused.
    """

    model_config = ConfigDict(extra="ignore")

    #: The streaming protocol whose events the run tells; None: those of its stream modes.
    protocol: ClassVar[Literal["v3"] | None] = None

    assistant_id: str = Field(min_length=1, max_length=255)
    input: Any = None
    command: GraphCommand | None = None
    config: RunConfig | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    stream_mode: StreamModes = Field(default_factory=_values_only)
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    interrupt_before: NodeNames | Literal["*"] | None = None
    interrupt_after: NodeNames | Literal["*"] | None = None
    checkpoint: dict[str, Any] | None = None
    checkpoint_id: str | None = Field(None, max_length=255)
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    multitask_strategy: MultitaskStrategy | None = None
    if_not_exists: Literal["create", "reject"] | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    after_seconds: float | None = Field(None, ge=0, le=YEAR_SECONDS)
    strict_resume: bool | None = None
    deadline_seconds: float | None = Field(None, gt=0, le=YEAR_SECONDS, allow_inf_nan=False)
    #: Refused if it is not the thread of the path.
    thread_id: Any = None
    webhook: Annotated[str, Field(max_length=_MAX_URL)] | None = None
    feedback_keys: Absent = None
    langsmith_tracer: Absent = None

    @model_validator(mode="after")
    def _one_durability(self) -> "RunCreate":
        during = self.checkpoint_during
        if during is not None and self.durability not in (None, *_DURABILITIES[during]):
            raise ValueError(
                f"checkpoint_during: {str(during).lower()} and durability: {self.durability}"
                " contradict each other; send durability alone"
            )
        return self


Body = TypeVar("Body", bound=RunCreate)


class ThreadRunCreate(RunCreate):
    """A run that is followed with the streaming protocol v3."""

    protocol: ClassVar[Literal["v3"] | None] = "v3"


def with_deadline(body: Body, seconds: float | None) -> Body:
    """The body with the deadline that the query of its request names.

    :raises InvalidRequest: the body names another one.
    """
    if seconds is None:
        return body
    if body.deadline_seconds not in (None, seconds):
        raise InvalidRequest("deadline_seconds: body and query differ; send one of them")
    return body.model_copy(update={"deadline_seconds": seconds})


class RunPage(BaseModel):
    """A page of the runs of a thread."""

    limit: int = Field(10, ge=0, le=1000)
    offset: int = Field(0, ge=0, le=2**31 - 1)


class RunsCancel(BaseModel):
    """Which runs to stop: those named on a thread, or all of a status."""

    model_config = ConfigDict(extra="ignore")

    thread_id: AnyThreadId | None = None
    run_ids: Annotated[list[UUID], Field(min_length=1, max_length=1000, fail_fast=True)] | None = (
        None
    )
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
    """The status that callers see; None for a run that is being rolled back.

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
        """The run as callers see it: ``interrupted`` as soon as it was asked to stop."""
        return cls(
            run_id=row.run_id,
            thread_id=row.thread_id,
            assistant_id=row.assistant_id,
            metadata=row.metadata_,
            status=shown_status(row) or "interrupted",
            # Who calls is for the graph alone.
            kwargs={key: value for key, value in row.kwargs.items() if key != "auth"},
            multitask_strategy=cast("MultitaskStrategy", row.multitask_strategy),
            # Postgres gives times in the time zone of the session.
            created_at=row.created_at.astimezone(UTC),
            updated_at=row.updated_at.astimezone(UTC),
        )
