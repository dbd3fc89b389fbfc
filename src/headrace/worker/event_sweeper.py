"""Deletes stored events when ``events.keep_seconds`` have passed since their run ended."""

import structlog

from headrace.event_settings import EventSettings
from headrace.events.log import EventLog
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.events")


class EventSweeper:
    """One per process; any number may sweep at once."""

    def __init__(self, log: EventLog, settings: EventSettings) -> None:
        self._events = log
        self._settings = settings

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._settings.sweep_seconds,
            jitter=0.3,
            name="event-sweeper",
            log=_log,
            skipped_event="events_kept_longer",
        )

    async def _sweep(self) -> None:
        deleted = await self._events.delete_expired(self._settings.keep_seconds)
        if deleted:
            _log.info("events_deleted", events=deleted)
