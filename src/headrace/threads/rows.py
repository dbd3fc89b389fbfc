"""Rows of threads, as services and answers use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.db.tables import ThreadRow

COLUMNS = tuple(column.name for column in ThreadRow.__table__.columns)


@dataclass(slots=True)
class StoredThread:
    """What clients see of a thread, and how its state is read. SQLAlchemy's ``ThreadRow`` has all
    columns, and takes many times as long to make.
    """

    thread_id: str
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    config: dict[str, Any]
    status: str = "idle"
    state_updated_at: datetime | None = None
    error: dict[str, Any] | None = None
    interrupts: dict[str, Any] | None = None
    ttl_minutes: float | None = None
    ttl_strategy: str | None = None


def row_from(columns: Mapping[Any, Any]) -> StoredThread:
    """The thread of a row of ``threads`` with the columns that are read here."""
    return StoredThread(
        columns["thread_id"],
        columns["created_at"],
        columns["updated_at"],
        columns["metadata"],
        columns["config"],
        columns["status"],
        columns["state_updated_at"],
        columns["error"],
        columns["interrupts"],
        columns["ttl_minutes"],
        columns["ttl_strategy"],
    )
