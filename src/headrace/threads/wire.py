"""A thread as clients see it."""

from datetime import UTC, timedelta
from typing import Any

from headrace.db.tables import ThreadRow


def thread_json(row: ThreadRow, values: Any, *, values_omitted: str = "") -> dict[str, Any]:
    """``error`` and ``interrupts`` appear once it has had a run.

    Postgres says times in the zone of its session; clients get UTC.

    :param values_omitted: why there are no values although there are some.
    """
    thread: dict[str, Any] = {
        "thread_id": row.thread_id,
        "created_at": row.created_at.astimezone(UTC),
        "updated_at": row.updated_at.astimezone(UTC),
        "state_updated_at": (row.state_updated_at or row.created_at).astimezone(UTC),
        "metadata": row.metadata_,
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


def ttl_json(row: ThreadRow) -> dict[str, Any] | None:
    """The thread's own time to live; None when it has none."""
    if row.ttl_minutes is None:
        return None
    return {
        "strategy": row.ttl_strategy,
        "ttl_minutes": row.ttl_minutes,
        "expires_at": row.updated_at.astimezone(UTC) + timedelta(minutes=row.ttl_minutes),
    }
