"""The slots of crons that are made and changed: which one comes next, and whether there is one."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from headrace.cron_settings import CronSettings
from headrace.crons.repository import CronRepository
from headrace.crons.schedules import Schedule
from headrace.db.cron_tables import CronRow
from headrace.errors import InvalidRequest
from headrace.thread_pool import in_a_thread

#: Fields of a patch that move the slots of a cron.
_OF_SLOTS = ("schedule", "timezone", "end_time")


class CronSlots:
    def __init__(self, repository: CronRepository, settings: CronSettings) -> None:
        self._repository = repository
        self._settings = settings

    async def first(self, text: str, timezone: str | None, end_time: datetime | None) -> datetime:
        """The first slot of a new cron.

        :raises InvalidRequest: there is none, or the schedule is refused.
        """
        schedule = self._schedule(text, timezone)
        slot = await _slot_after(await self._repository.now(), schedule, end_time)
        if slot is None:
            raise _no_slot_left()
        return slot

    async def moved(self, row: CronRow, values: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the next slot, after a patch that changes ``values``.

        :raises InvalidRequest: the patch leaves none. A cron that has ended may be changed in other
            ways, and a disabled one needs no slot.
        """
        text, zone = values.get("schedule", row.schedule), values.get("timezone", row.timezone)
        end_time, enabled = values.get("end_time", row.end_time), values.get("enabled", row.enabled)
        schedule = self._schedule(text, zone)
        again = enabled and not row.enabled
        if again or (text, zone) != (row.schedule, row.timezone) or row.next_run_date is None:
            # Slots that passed while the cron was disabled are not made up for.
            slot = await _slot_after(await self._repository.now(), schedule, end_time)
        else:
            slot = row.next_run_date
        if slot is not None and end_time is not None and slot > end_time:
            slot = None
        if slot is None and enabled and (again or not values.keys().isdisjoint(_OF_SLOTS)):
            raise _no_slot_left()
        moved: dict[str, Any] = {"next_run_date": slot}
        if not enabled:
            moved["look_at"] = None
        elif slot != row.next_run_date or again:
            moved["look_at"] = slot
        if enabled:
            moved["disabled_reason"] = None
        return moved

    def _schedule(self, text: str, timezone: str | None) -> Schedule:
        """:raises InvalidRequest: there is no such schedule, or its slots are too near."""
        schedule, least = Schedule.read(text, timezone), self._settings.min_interval_seconds
        if schedule.with_seconds and least >= 60:
            raise InvalidRequest(
                f"Invalid cron schedule: '{text}'. It has six fields, and the last would be"
                " seconds; send five (setting crons.min_interval_seconds)"
            )
        if schedule.least_gap_seconds < least:
            raise InvalidRequest(
                f"schedule: two slots are {schedule.least_gap_seconds} s apart; at least {least} s"
                " are needed (setting crons.min_interval_seconds)"
            )
        return schedule


def _no_slot_left() -> InvalidRequest:
    return InvalidRequest(
        "end_time: the schedule has no slot between now and then; to end a cron, disable it or"
        " delete it"
    )


async def _slot_after(
    now: datetime, schedule: Schedule, end_time: datetime | None
) -> datetime | None:
    """:raises InvalidRequest: the schedule has no slots at all."""
    slot = await in_a_thread(partial(schedule.after, now))
    if slot is None:
        raise InvalidRequest(
            f"Invalid cron schedule: '{schedule.text}'. No time of the next fifty years fits it"
        )
    return None if end_time is not None and slot > end_time else slot
