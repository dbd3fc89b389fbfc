"""Reads threads, many in one query."""

from collections.abc import Sequence
from typing import Any

from headrace.auth.principal import Principal
from headrace.auth.row_scope import filter_text, scoped_statements
from headrace.db.arrays import Jsonb, Text
from headrace.db.planner import fixed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.shared_reads import SharedReads

_MAX_BATCH = 64

#: The id of a thread, and the caller's tenant, owner and filter.
Place = tuple[str, str, str | None, str | None]


def place_of(principal: Principal, thread_id: str) -> Place:
    """The thread with this id, if it is in the caller's scope."""
    return thread_id, principal.tenant, principal.owner, filter_text(principal)


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
        self._sql = scoped_statements("headrace.threads", "threads.sql")["get_threads"]

    async def ask(self, connection: Connection, keys: Sequence[Place]) -> Sequence[dict[str, Any]]:
        return await fixed_rows(
            connection,
            self._sql,
            {
                "thread_ids": Text([key[0].encode() for key in keys]),
                "tenants": Text([key[1].encode() for key in keys]),
                "owners": Text([_bytes(key[2]) for key in keys]),
                "filters": Jsonb([_bytes(key[3]) for key in keys]),
            },
        )

    def is_found(self, row: dict[str, Any]) -> bool:
        return row["thread_id"] is not None


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
