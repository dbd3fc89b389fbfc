"""Deletes stored events once nobody can want them any more."""

import asyncio
import random

import structlog

from headrace.errors import Unavailable
from headrace.event_settings import EventSettings
from headrace.events.log import EventLog

_log = structlog.stdlib.get_logger("headrace.events")


class EventSweeper:
    """One per process; any number may sweep at once."""

    def __init__(self, log: EventLog, settings: EventSettings) -> None:
        self._events = log
        self._settings = settings

    async def sweep_forever(self) -> None:
        while True:
            # Processes that started together need not sweep together.
            await asyncio.sleep(self._settings.sweep_seconds * random.uniform(0.7, 1.3))  # noqa: S311
            try:
                deleted = await self._events.delete_expired(self._settings.keep_seconds)
            except Unavailable as fault:
                _log.warning("events_kept_longer", cause=fault.code)
            else:
                if deleted:
                    _log.info("events_deleted", events=deleted)
