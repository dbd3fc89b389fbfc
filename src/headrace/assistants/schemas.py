"""Bodies of requests and answers about assistants."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from headrace.db.tables import AssistantRow, AssistantVersionRow
from headrace.graphs.configuration import AssistantConfig

#: The largest value of Postgres's ``integer``.
_MAX_INTEGER = 2**31 - 1

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "created_at",
    "updated_at",
    "metadata",
    "version",
]


class AssistantVersion(BaseModel):
    """One version of an assistant."""

    assistant_id: UUID
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    name: str
    description: str | None
    version: int
    created_at: datetime

    @classmethod
    def from_version_row(cls, row: AssistantVersionRow) -> "AssistantVersion":
        return cls(**_content(row))


class Assistant(AssistantVersion):
    """A graph with a configuration: the version that runs use."""

    updated_at: datetime

    @classmethod
    def from_row(cls, row: AssistantRow) -> "Assistant":
        return cls(**_content(row), updated_at=row.updated_at.astimezone(UTC))


class SelectedAssistant(TypedDict, total=False):
    """The fields of an assistant that `select` names; all without `select`."""

    assistant_id: UUID
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    name: str
    description: str | None
    version: int
    created_at: datetime
    updated_at: datetime


def _content(row: AssistantRow | AssistantVersionRow) -> dict[str, Any]:
    return {
        "assistant_id": row.assistant_id,
        "graph_id": row.graph_id,
        "config": row.config,
        "context": row.context,
        "metadata": row.metadata_,
        "name": row.name,
        "description": row.description,
        "version": row.version,
        # Postgres answers in the time zone of the session.
        "created_at": row.created_at.astimezone(UTC),
    }


Name = Annotated[str, Field(max_length=1000)]


class _AssistantBody(BaseModel):
    """Fields of later API versions are ignored."""

    model_config = ConfigDict(extra="ignore")


class AssistantCreate(_AssistantBody):
    """A new assistant. ``config.configurable`` and ``context`` mean one thing: send one of them."""

    graph_id: Name
    assistant_id: UUID | None = None
    config: AssistantConfig | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: Name | None = None
    description: Annotated[str, Field(max_length=100_000)] | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class AssistantUpdate(_AssistantBody):
    """Changes to an assistant.

    An omitted field stays as it is. ``metadata`` is merged. ``description: null`` removes the
    description.
    """

    graph_id: Name | None = None
    config: AssistantConfig | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: Name | None = None
    description: Annotated[str, Field(max_length=100_000)] | None = None


class AssistantFilter(_AssistantBody):
    """All conditions must hold. ``name`` is a part of the name, in upper or lower case."""

    metadata: dict[str, Any] | None = None
    graph_id: Name | None = None
    name: Name | None = None


class AssistantSearch(AssistantFilter):
    """A page of the assistants that match the filter."""

    limit: int = Field(10, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=_MAX_INTEGER)
    sort_by: Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[AssistantField], Field(max_length=100, fail_fast=True)] | None = None


class VersionSearch(_AssistantBody):
    """A page of an assistant's versions."""

    metadata: dict[str, Any] | None = None
    limit: int = Field(10, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=_MAX_INTEGER)


class LatestVersion(_AssistantBody):
    """The version that runs use from now on."""

    version: int = Field(ge=1, le=_MAX_INTEGER)
