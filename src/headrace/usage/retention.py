"""Deletes figures of model calls when their time is over; any process may sweep."""

import structlog

from headrace.lifecycle import Tasks
from headrace.usage.repository import UsageRepository

_log = structlog.stdlib.get_logger("headrace.usage")

#: Rows that one statement deletes.
_BATCH = 1000


class UsageSweeper:
    """One per process; any number may sweep at once.

    :param limit: how many rows one round deletes.
    """

    def __init__(
        self,
        repository: UsageRepository,
        *,
        keep_seconds: float,
        interval_seconds: float,
        limit: int,
    ) -> None:
        self._repository = repository
        self._keep_seconds = keep_seconds
        self._interval_seconds = interval_seconds
        self._limit = limit

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._interval_seconds,
            jitter=0.3,
            name="usage-sweeper",
            log=_log,
            skipped_event="usage_kept_longer",
        )

    async def _sweep(self) -> None:
        if deleted := await self.sweep():
            _log.info("usage_expired", rows=deleted)

    async def sweep(self) -> int:
        """One round; returns how many rows were deleted.

        :raises Unavailable: the database could not be reached; deleted rows stay deleted.
        """
        deleted = 0
        while deleted < self._limit:
            wanted = min(_BATCH, self._limit - deleted)
            found = await self._repository.delete_expired(self._keep_seconds, wanted)
            deleted += found
            if found < wanted:
                break
        return deleted
