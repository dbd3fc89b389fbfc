"""Reads threads, many in one query."""

from collections.abc import Sequence
from typing import Any

from headrace.db.arrays import Text
from headrace.db.planner import fixed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.shared_reads import SharedReads
from headrace.db.statements import named_statements

_MAX_BATCH = 64

#: The id of a thread, and its tenant.
Place = tuple[str, str]


class ThreadReader(SharedReads[Place]):
    """One per process."""

    def __init__(
        self, pool: SharedPool, *, acquire_timeout_seconds: float, timeout_seconds: float
    ) -> None:
        super().__init__(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            timeout_seconds=timeout_seconds,
            max_batch=_MAX_BATCH,
            waits_for_pool=False,
        )
        self._sql = named_statements("headrace.threads", "threads.sql")["get_threads"]

    async def ask(self, connection: Connection, keys: Sequence[Place]) -> Sequence[dict[str, Any]]:
        return await fixed_rows(
            connection,
            self._sql,
            {
                "thread_ids": Text([thread_id.encode() for thread_id, _ in keys]),
                "tenants": Text([tenant.encode() for _, tenant in keys]),
            },
        )

    def is_found(self, row: dict[str, Any]) -> bool:
        return row["thread_id"] is not None
