"""Crons in requests and answers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from typing_extensions import TypedDict

from headrace.auth.principal import ANONYMOUS
from headrace.db.cron_tables import CronRow
from headrace.ids import storable_id
from headrace.runs.schemas import RunCreate
from headrace.threads.schemas import MAX_PAGE, AnyThreadId

#: Fields that have columns of their own alone. Others are in the payload as they were sent, also
#: those that no run has.
_NOT_IN_PAYLOAD = frozenset({"assistant_id", "thread_id", "end_time"})

_MAX_SCHEDULE = 255


def _in_utc(moment: datetime) -> datetime:
    """A time without an offset is taken as UTC."""
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside the years 1 to 9999 of UTC") from None


def _none_for_empty(given: Any) -> Any:
    return None if given == "" else given


#: An empty text means nothing, as null does.
EmptyIsNone = BeforeValidator(_none_for_empty)

Moment = Annotated[datetime, AfterValidator(_in_utc)]
ScheduleText = Annotated[
    str, Field(min_length=1, max_length=_MAX_SCHEDULE), AfterValidator(storable_id)
]
ZoneName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(storable_id)]
OnRunCompleted = Literal["delete", "keep"]

#: Fields of a run that a cron refuses, and why. Values that change nothing are accepted.
_REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("after_seconds", (None, 0), "the schedule says when a run starts; leave it out"),
    ("checkpoint", (None, {}), "each run starts from the thread's latest checkpoint; leave it out"),
    (
        "checkpoint_id",
        (None, ""),
        "each run starts from the thread's latest checkpoint; leave it out",
    ),
    (
        "if_not_exists",
        (None, "reject"),
        "the thread that a cron names must exist, and without one each run gets a new thread; leave"
        " it out",
    ),
    ("on_completion", (None,), "send on_run_completed: delete or keep"),
    ("on_disconnect", (None, "continue"), "no client follows the runs of a cron; leave it out"),
)


def refuse_fields_of_one_run(body: RunCreate) -> None:
    """:raises ValueError: a cron cannot do what a field asks for."""
    for name, accepted, why in _REFUSED:
        if getattr(body, name) not in accepted:
            raise ValueError(f"{name}: {why}")
    if body.command is not None and body.command.resume is not None:
        raise ValueError("command.resume: a cron answers no interrupt; send it with a run")


def _without_empty(body: Any, *names: str) -> Any:
    """The body as if fields that are null or empty had not been sent: they ask for nothing."""
    if not isinstance(body, Mapping):
        return body
    return {
        name: value
        for name, value in body.items()
        if name not in names or not (value is None or value == "")
    }


class CronCreate(RunCreate):
    """A schedule, and what to run at each of its slots. Unknown fields are ignored."""

    schedule: ScheduleText
    timezone: Annotated[ZoneName | None, EmptyIsNone] = None
    end_time: Annotated[Moment | None, EmptyIsNone] = None
    enabled: bool = True
    on_run_completed: OnRunCompleted | None = None

    @model_validator(mode="before")
    @classmethod
    def _what_asks_for_something(cls, body: Any) -> Any:
        return _without_empty(body, "enabled")

    @model_validator(mode="after")
    def _fields_of_crons(self) -> "CronCreate":
        refuse_fields_of_one_run(self)
        return self

    def payload(self) -> dict[str, Any]:
        """The fields as they were sent; a run passes over those that it does not have."""
        return self.model_dump(exclude_unset=True, exclude=set(_NOT_IN_PAYLOAD))


class CronPatch(RunCreate):
    """Changes to a cron. An omitted field stays as it is, null removes one that a cron may lack.

    ``metadata`` is merged one level deep. ``input``, ``config`` and ``context`` are replaced.
    """

    assistant_id: str = Field("", max_length=255)
    schedule: ScheduleText = ""
    timezone: Annotated[ZoneName | None, EmptyIsNone] = None
    end_time: Annotated[Moment | None, EmptyIsNone] = None
    enabled: bool = True
    on_run_completed: OnRunCompleted | None = None

    @model_validator(mode="before")
    @classmethod
    def _what_asks_for_something(cls, body: Any) -> Any:
        return _without_empty(body, "assistant_id", "schedule", "enabled")

    @model_validator(mode="after")
    def _fields_of_crons(self) -> "CronPatch":
        refuse_fields_of_one_run(self)
        return self

    def changed_payload(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``payload`` with what this patch changes."""
        given = self.model_dump(exclude_unset=True, exclude=set(_NOT_IN_PAYLOAD))
        # Null is a value of input: the run goes on where the thread waits.
        changed = {
            name: value for name, value in given.items() if value is not None or name == "input"
        }
        if changed.get("metadata") is not None:
            changed["metadata"] = {**(payload.get("metadata") or {}), **changed["metadata"]}
        return {name: value for name, value in payload.items() if name not in given} | changed


class CronFilter(BaseModel):
    """Which crons: those that match all given fields."""

    model_config = ConfigDict(extra="ignore")

    assistant_id: Annotated[Annotated[str, Field(max_length=255)] | None, EmptyIsNone] = None
    thread_id: Annotated[AnyThreadId | None, EmptyIsNone] = None
    enabled: bool | None = None
    metadata: dict[str, Any] | None = None


CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "end_time",
    "schedule",
    "timezone",
    "created_at",
    "updated_at",
    "user_id",
    "payload",
    "next_run_date",
    "metadata",
    "now",
    "on_run_completed",
    "enabled",
    "disabled_reason",
]


class CronSearch(CronFilter):
    """A page of the crons that match the filter."""

    limit: int = Field(10, ge=1, le=MAX_PAGE)
    offset: int = Field(0, ge=0, le=2**31 - 1)
    sort_by: (
        Literal[
            "cron_id",
            "assistant_id",
            "thread_id",
            "created_at",
            "updated_at",
            "next_run_date",
            "end_time",
        ]
        | None
    ) = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[CronField], Field(max_length=100, fail_fast=True)] | None = None


class Cron(BaseModel):
    """A schedule, and what runs at each of its slots."""

    cron_id: UUID
    assistant_id: UUID
    thread_id: str | None
    user_id: str | None
    end_time: datetime | None
    schedule: str
    timezone: str | None
    payload: dict[str, Any]
    next_run_date: datetime | None
    metadata: dict[str, Any]
    on_run_completed: OnRunCompleted | None
    enabled: bool
    created_at: datetime
    updated_at: datetime
    disabled_reason: str | None = None


class SelectedCron(TypedDict, total=False):
    """The fields of a cron that `select` names; all without `select`."""

    cron_id: UUID
    assistant_id: UUID
    thread_id: str | None
    user_id: str | None
    end_time: datetime | None
    schedule: str
    timezone: str | None
    payload: dict[str, Any]
    next_run_date: datetime | None
    metadata: dict[str, Any]
    now: datetime
    on_run_completed: OnRunCompleted | None
    enabled: bool
    created_at: datetime
    updated_at: datetime
    disabled_reason: str


def cron_json(row: CronRow) -> dict[str, Any]:
    """A cron as clients see it. Postgres gives times in the time zone of its session."""
    cron: dict[str, Any] = {
        "cron_id": row.cron_id,
        "assistant_id": row.assistant_id,
        "thread_id": row.thread_id,
        "user_id": "" if row.owner == ANONYMOUS.identity else row.owner,
        "end_time": _utc(row.end_time),
        "schedule": row.schedule,
        "timezone": row.timezone,
        "payload": _shown_payload(row),
        "next_run_date": _utc(row.next_run_date),
        "metadata": row.metadata_,
        "on_run_completed": row.on_run_completed,
        "enabled": row.enabled,
        "created_at": _utc(row.created_at),
        "updated_at": _utc(row.updated_at),
    }
    if row.disabled_reason is not None:
        cron["disabled_reason"] = row.disabled_reason
    return cron


def _shown_payload(row: CronRow) -> dict[str, Any]:
    """The fields as they were sent, with the id that ``configurable`` of the runs has."""
    config = row.payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(row.cron_id)}
    return {
        "assistant_id": str(row.assistant_id),
        **row.payload,
        "config": {**config, "configurable": configurable},
    }


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
