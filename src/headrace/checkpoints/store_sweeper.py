"""Deletes expired store items. Reads never return an expired item, even before it is deleted."""

from collections.abc import Callable

import structlog

from headrace.db.batches import delete_in_batches
from headrace.db.pool import SharedPool
from headrace.db.statements import statement
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.store")

#: Items that one statement deletes. Few items make short transactions and few locks.
_BATCH = 1000

#: Uses the index on ``expires_at``. Concurrent sweepers skip each other's rows. A read may prolong
#: an item's life meanwhile: Postgres checks the condition again when it locks the row. A row is
#: found by its place (ctid), without any index. If it moves meanwhile, the next round deletes it.
_DELETE_EXPIRED = statement("""
DELETE FROM store
WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM store
  WHERE expires_at < now()
  ORDER BY expires_at
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
))""")


class StoreSweeper:
    """One per process; any number may sweep at once."""

    def __init__(
        self, pool: SharedPool, *, interval_seconds: float, count: Callable[[int], None]
    ) -> None:
        self._pool = pool
        self._interval_seconds = interval_seconds
        self._count = count

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._interval_seconds,
            jitter=0.3,
            name="store-sweeper",
            log=_log,
            skipped_event="store_items_kept_longer",
        )

    async def _sweep(self) -> None:
        if deleted := await self.sweep():
            _log.info("store_items_expired", items=deleted)

    async def sweep(self, batch: int = _BATCH) -> int:
        """Delete expired items in batches; returns how many.

        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        return await delete_in_batches(
            self._pool, _DELETE_EXPIRED, {}, limit=batch, count=self._count
        )
