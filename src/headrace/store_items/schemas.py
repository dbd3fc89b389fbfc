"""Bodies of requests and answers about store items."""

from datetime import UTC, datetime
from typing import Annotated, Any

from langgraph.store.base import Item, SearchItem
from pydantic import BaseModel, ConfigDict, Field

#: The largest value of Postgres's ``integer``.
_MAX_INTEGER = 2**31 - 1

#: A century, in minutes.
MAX_TTL_MINUTES = 100 * 366 * 24 * 60.0


#: Bounds on labels and their characters. The settings of the store are always smaller.
MAX_LABELS, _MAX_LABEL = 1000, 4000
_MAX_QUERY = 10_000

Label = Annotated[str, Field(max_length=_MAX_LABEL)]
Labels = Annotated[list[Label], Field(max_length=MAX_LABELS, fail_fast=True)]
Key = Annotated[str, Field(max_length=_MAX_LABEL)]


class _ItemBody(BaseModel):
    """Fields of later API versions are ignored."""

    model_config = ConfigDict(extra="ignore")


class ItemPut(_ItemBody):
    """An item to write. ``ttl`` is in minutes; null: for ever; omitted: the manifest's default.

    ``index`` names the paths whose texts a search by meaning compares; false or an empty
    list: it does not find the item; null or true: the fields of ``store.index``.
    """

    namespace: Labels
    key: Key
    value: dict[str, Any]
    index: bool | Labels | None = None
    ttl: float | None = Field(None, gt=0, le=MAX_TTL_MINUTES)


class ItemDelete(_ItemBody):
    """The item to delete."""

    namespace: Labels = []
    key: Key


class ItemSearch(_ItemBody):
    """A search below a namespace.

    Each key of ``filter`` must match: a value, or an operator like ``{"$gt": value}``.
    """

    namespace_prefix: Labels | None = None
    filter: dict[str, Any] | None = None
    limit: int = Field(10, ge=0, le=1000)
    offset: int = Field(0, ge=0, le=_MAX_INTEGER)
    query: Annotated[str, Field(max_length=_MAX_QUERY)] | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(_ItemBody):
    """A search for namespaces. ``*`` in prefix and suffix is any label."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: int | None = Field(None, ge=1, le=1000)
    limit: int = Field(100, ge=0, le=1000)
    offset: int = Field(0, ge=0, le=_MAX_INTEGER)


class StoreItem(BaseModel):
    """A value under a key in a namespace."""

    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_item(cls, item: Item) -> "StoreItem":
        return cls(**_content(item))


class FoundItem(BaseModel):
    """A store item as a search finds it. ``score`` is null where the search has no ``query``."""

    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    score: float | None

    @classmethod
    def from_item(cls, item: SearchItem) -> "FoundItem":
        return cls(**_content(item), score=item.score)


class FoundItems(BaseModel):
    items: list[FoundItem]


class Namespaces(BaseModel):
    namespaces: list[list[str]]


def _content(item: Item) -> dict[str, Any]:
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "value": item.value,
        # Postgres answers in the time zone of the session.
        "created_at": item.created_at.astimezone(UTC),
        "updated_at": item.updated_at.astimezone(UTC),
    }
