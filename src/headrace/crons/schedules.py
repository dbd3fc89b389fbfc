"""Schedules: cron expressions in a time zone, and their slots in UTC.

Slots follow the clock of the time zone as Debian's cron does. A time that daylight saving time
skips is made up for right after the change. A time that comes twice is used once. Schedules that
repeat within the hour, or each hour, go on as if the clock had not changed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from headrace.errors import InvalidRequest

_DAY_SECONDS = 86_400
#: Parsing needs a moment in time, whatever moment.
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)
_EXAMPLE = "'*/5 * * * *' is every 5 minutes"
#: Names of schedules, in any case.
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: Entries of the database that are no names of places: what they mean differs between machines, or
#: counts leap seconds.
_NO_PLACES = ("localtime", "posix/", "posixrules", "right/")


class NoSuchSchedule(InvalidRequest):
    """There is no such schedule or time zone."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    :ivar text: five fields: minute, hour, day of month, month, day of week. Or six: seconds last.
        Or a name, such as ``@daily``.
    """

    text: str
    zone: tzinfo

    @classmethod
    def read(cls, text: str, timezone: str | None) -> "Schedule":
        """
        :param timezone: a name of the IANA database; None is UTC.
        :raises NoSuchSchedule: there is no such schedule or time zone.
        """
        zone = _zone(timezone)
        _parsed(text)
        return cls(text, zone)

    @property
    def with_seconds(self) -> bool:
        return len(self.text.split()) == 6

    @property
    def least_gap_seconds(self) -> int:
        """The least time between two slots, daylight saving time aside."""
        parsed = _parsed(self.text)
        if len(parsed.seconds) > 1:
            return _least_gap(parsed.seconds, 60, neighbours=parsed.minutes, of=60)
        if len(parsed.minutes) > 1:
            return 60 * _least_gap(parsed.minutes, 60, neighbours=parsed.hours, of=24)
        if len(parsed.hours) > 1:
            return 3600 * _least_gap(parsed.hours, 24, neighbours=(0,), of=1)
        return _DAY_SECONDS

    def after(self, moment: datetime) -> datetime | None:
        """The first slot after ``moment``, in UTC; None: there is none within fifty years.

        A schedule without slots takes some 0.1 s of processor time.
        """
        for found in CronSim(_expression(self.text), moment.astimezone(self.zone)):
            slot = found.astimezone(UTC)
            # In the hour that comes twice, the library begins with the first of the two.
            if slot > moment:
                return slot
        return None


def _least_gap(values: Collection[int], span: int, *, neighbours: Collection[int], of: int) -> int:
    """The least distance between two of ``values``, which repeat after ``span``.

    :param neighbours: the spans that have slots, of ``of`` in all: the last value of one is near
        the first value of the next only if both have slots.
    """
    ordered = sorted(values)
    gaps = [later - earlier for earlier, later in pairwise(ordered)]
    if any((one + 1) % of in neighbours for one in neighbours):
        gaps.append(span - ordered[-1] + ordered[0])
    return min(gaps)


def _expression(text: str) -> str:
    """The schedule as the library reads it: it takes seconds as the first of six fields."""
    fields = _NAMED.get(text.strip().lower(), text).split()
    return " ".join(fields[5:] + fields[:5])


def _parsed(text: str) -> CronSim:
    expression = _expression(text)
    if len(expression.split()) not in (5, 6):
        raise NoSuchSchedule(
            f"Invalid cron schedule: '{text}'. Send five fields: minute, hour, day of month, month"
            f" and day of week. {_EXAMPLE}."
        )
    try:
        return CronSim(expression, _ANY_MOMENT)
    except (CronSimError, AssertionError, ValueError) as error:
        raise NoSuchSchedule(
            f"Invalid cron schedule: '{text}'. Reason: {error or 'unknown field'}. {_EXAMPLE}."
        ) from None


def _zone(name: str | None) -> tzinfo:
    if name is None or name == "UTC":
        return UTC
    try:
        if name.startswith(_NO_PLACES):
            raise ZoneInfoNotFoundError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NoSuchSchedule(
            f"timezone: '{name}' is not in the IANA database; send a name like Europe/Berlin"
        ) from None
