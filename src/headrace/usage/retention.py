"""Deletes figures of model calls when their time is over; any process may sweep."""

import structlog

from headrace.lifecycle import Tasks
from headrace.usage.repository import UsageRepository

_log = structlog.stdlib.get_logger("headrace.usage")


class UsageSweeper:
    """One per process; any number may sweep at once."""

    def __init__(
        self,
        repository: UsageRepository,
        *,
        keep_seconds: float,
        interval_seconds: float,
    ) -> None:
        self._repository = repository
        self._keep_seconds = keep_seconds
        self._interval_seconds = interval_seconds

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self.sweep,
            every_seconds=self._interval_seconds,
            jitter=0.3,
            name="usage-sweeper",
            log=_log,
            skipped_event="usage_kept_longer",
        )

    async def sweep(self) -> int:
        """Delete all rows whose time is over, in batches; returns how many they were.

        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        deleted = await self._repository.delete_expired(self._keep_seconds)
        if deleted:
            _log.info("usage_expired", rows=deleted)
        return deleted
