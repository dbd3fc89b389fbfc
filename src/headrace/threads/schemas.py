"""Threads in requests and answers."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from headrace.ids import canonical_uuid, storable_id
from headrace.states.schemas import MAX_SUPERSTEPS, Superstep
from headrace.threads.rows import StoredThread

MAX_THREAD_ID_LENGTH = 255


#: Adopted threads and threads of ``/chat`` may have any id. All other threads have UUIDs.
AnyThreadId = Annotated[
    str, Field(min_length=1, max_length=MAX_THREAD_ID_LENGTH), AfterValidator(storable_id)
]


def _uuid(value: Any) -> Any:
    if isinstance(value, str):
        canonical = canonical_uuid(value)
        if canonical is None:
            raise ValueError("Invalid thread ID: must be a UUID")
        return UUID(canonical)
    return value


ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
TTLStrategy = Literal["delete", "keep_latest"]

#: A hundred years, in minutes.
MAX_TTL_MINUTES = 100 * 366 * 24 * 60.0

#: The most threads of one page.
MAX_PAGE = 1000


class ThreadTTL(BaseModel):
    """How long a thread is kept after its last use, and what happens to it then."""

    model_config = ConfigDict(extra="ignore")

    ttl: float = Field(gt=0, le=MAX_TTL_MINUTES, description="minutes")
    strategy: TTLStrategy = "delete"


class ThreadCreate(BaseModel):
    """A new thread. Fields of later API versions are ignored."""

    model_config = ConfigDict(extra="ignore")

    thread_id: Annotated[UUID, BeforeValidator(_uuid)] | None = None
    metadata: dict[str, Any] | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: ThreadTTL | None = None
    supersteps: (
        Annotated[list[Superstep], Field(max_length=MAX_SUPERSTEPS, fail_fast=True)] | None
    ) = None


class ThreadPatch(BaseModel):
    """What to change; metadata is merged, one level deep."""

    model_config = ConfigDict(extra="ignore")

    metadata: dict[str, Any] | None = None
    ttl: ThreadTTL | None = None


class ThreadFilter(BaseModel):
    """Which threads: those that match all given fields. Objects match as ``@>`` of jsonb does."""

    model_config = ConfigDict(extra="ignore")

    ids: Annotated[list[AnyThreadId], Field(max_length=MAX_PAGE, fail_fast=True)] | None = None
    metadata: dict[str, Any] | None = None
    values: dict[str, Any] | None = None
    status: ThreadStatus | None = None


ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "context",
    "status",
    "values",
    "interrupts",
    "error",
]
SortBy = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]

#: There are fewer fields, but a client may name one twice.
_MAX_FIELDS = 100
_MAX_PATH = 1000

#: ``values.messages[-1].content``
_PATH = re.compile(r"(values|metadata|config|interrupts|error)((\.[^.\[\]]+)|(\[-?\d{1,9}\]))*")


def _extractable(path: str) -> str:
    if _PATH.fullmatch(path) is None:
        raise ValueError(
            "a path starts with values, metadata, config, interrupts or error and goes on with"
            " .key or [index], like values.messages[-1].content"
        )
    return path


class ThreadSearch(ThreadFilter):
    """Which threads, in which order, and which of their fields."""

    limit: int = Field(10, ge=1, le=MAX_PAGE)
    offset: int = Field(0, ge=0, le=2**31 - 1)
    sort_by: SortBy | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[ThreadField], Field(max_length=_MAX_FIELDS, fail_fast=True)] | None = (
        None
    )
    extract: (
        dict[
            Annotated[str, Field(max_length=255)],
            Annotated[str, Field(max_length=_MAX_PATH), AfterValidator(_extractable)],
        ]
        | None
    ) = Field(None, max_length=10)


class ThreadsPrune(BaseModel):
    """Which threads to delete, or to reduce to their latest checkpoints."""

    model_config = ConfigDict(extra="ignore")

    thread_ids: Annotated[list[AnyThreadId], Field(max_length=MAX_PAGE, fail_fast=True)]
    strategy: TTLStrategy = "delete"


class Pruned(BaseModel):
    """How many threads were deleted or reduced."""

    pruned_count: int


class ThreadTTLInfo(BaseModel):
    """A thread's own time to live, as ``include=ttl`` shows it."""

    strategy: TTLStrategy
    ttl_minutes: float
    expires_at: datetime


class Thread(BaseModel):
    """A conversation. ``error`` and ``interrupts`` appear once it has had a run."""

    thread_id: str
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: dict[str, Any]
    status: ThreadStatus
    config: dict[str, Any]
    values: Any = None
    values_omitted: str | None = Field(
        None, description="Why `values` is null: they are larger than an answer may be."
    )
    error: Any = None
    interrupts: dict[str, Any] | None = None
    ttl: ThreadTTLInfo | None = None


class SelectedThread(TypedDict, total=False):
    """The fields of a thread that `select` names; all without `select`."""

    thread_id: str
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: dict[str, Any]
    status: ThreadStatus
    config: dict[str, Any]
    values: Any
    values_omitted: str
    error: Any
    interrupts: dict[str, Any]
    extracted: dict[str, Any]


def thread_json(row: StoredThread, values: Any, *, values_omitted: str = "") -> dict[str, Any]:
    """A thread as clients see it; ``error`` and ``interrupts`` appear once it has had a run.

    Postgres gives times in the time zone of its session; clients get UTC.

    :param values_omitted: why values that exist are not shown.
    """
    thread: dict[str, Any] = {
        "thread_id": row.thread_id,
        "created_at": row.created_at.astimezone(UTC),
        "updated_at": row.updated_at.astimezone(UTC),
        "state_updated_at": (row.state_updated_at or row.created_at).astimezone(UTC),
        "metadata": row.metadata,
        "status": row.status,
        "config": row.config,
        "values": values,
    }
    if values_omitted:
        thread["values_omitted"] = values_omitted
    if row.state_updated_at is not None:
        thread["error"] = row.error
        thread["interrupts"] = row.interrupts or {}
    return thread


def ttl_json(row: StoredThread) -> dict[str, Any] | None:
    """The thread's own time to live; None when it has none."""
    if row.ttl_minutes is None:
        return None
    return {
        "strategy": row.ttl_strategy,
        "ttl_minutes": row.ttl_minutes,
        "expires_at": row.updated_at.astimezone(UTC) + timedelta(minutes=row.ttl_minutes),
    }
