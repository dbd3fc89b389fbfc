"""Deletes deliveries when their time is over; any process may sweep."""

import structlog

from headrace.lifecycle import Tasks
from headrace.webhooks.repository import DeliveryRepository

_log = structlog.stdlib.get_logger("headrace.webhooks")


class DeliverySweeper:
    """One per process; any number may sweep at once."""

    def __init__(
        self, repository: DeliveryRepository, *, keep_seconds: float, interval_seconds: float
    ) -> None:
        self._repository = repository
        self._keep_seconds = keep_seconds
        self._interval_seconds = interval_seconds

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self.sweep,
            every_seconds=self._interval_seconds,
            jitter=0.3,
            name="delivery-sweeper",
            log=_log,
            skipped_event="deliveries_kept_longer",
        )

    async def sweep(self) -> int:
        """Delete all deliveries whose time is over, in batches; returns how many they were.

        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        deleted = await self._repository.delete_expired(self._keep_seconds)
        if deleted:
            _log.info("deliveries_expired", rows=deleted)
        return deleted
