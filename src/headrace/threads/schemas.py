"""Threads on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_THREAD_ID_LENGTH = 255


def storable_id(value: str) -> str:
    """An id that the database can hold."""
    if "\0" in value:
        raise ValueError("an id cannot hold a NUL character")
    return value


#: Threads made through the API have UUIDs; adopted ones and those of /chat may have any id.
AnyThreadId = Annotated[
    str, Field(min_length=1, max_length=MAX_THREAD_ID_LENGTH), AfterValidator(storable_id)
]


class ThreadCreate(BaseModel):
    """Fields of later API versions are ignored."""

    model_config = ConfigDict(extra="ignore")

    thread_id: UUID | None = None
    metadata: dict[str, Any] | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class Thread(BaseModel):
    """A conversation. ``error`` and ``interrupts`` appear once it has had a run."""

    thread_id: str
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: dict[str, Any]
    status: Literal["idle", "busy", "interrupted", "error"]
    config: dict[str, Any]
    values: Any = None
    error: Any = None
    interrupts: dict[str, Any] | None = None


class ThreadState(BaseModel):
    """A thread at one checkpoint."""

    values: Any
    next: list[str]
    tasks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    created_at: str | None
    checkpoint: dict[str, Any] | None
    parent_checkpoint: dict[str, Any] | None
    interrupts: list[Any]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None
