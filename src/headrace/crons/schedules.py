"""Schedules: cron expressions in a time zone, and their slots in UTC.

Slots follow the clock of the time zone as Debian's cron does. A time that daylight saving time
skips is made up for right after the change. A time that comes twice is used once. Schedules whose
minute or hour begins with a star, and those with seconds, have a slot whenever the clock shows one
of their times: they go on as if the clock had not changed. The library finds these slots on a clock
that never changes, because it steps by whole hours, and some zones change by half an hour.
"""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from headrace.errors import InvalidRequest

_DAY_SECONDS = 86_400
_SECOND = timedelta(seconds=1)
#: The clock of a zone changes once at most within this time.
_BETWEEN_CHANGES = timedelta(hours=12)
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
        if self._is_steady:
            return self._steady_after(moment.astimezone(UTC).replace(microsecond=0))
        for found in CronSim(_expression(self.text), moment.astimezone(self.zone)):
            slot = found.astimezone(UTC)
            # In the hour that comes twice, the library begins with the first of the two.
            if slot > moment:
                return slot
        return None

    @property
    def _is_steady(self) -> bool:
        """Whether a slot is whenever the clock shows one of the times, as often as it does."""
        fields = _expression(self.text).split()
        return len(fields) == 6 or fields[0].startswith("*") or fields[1].startswith("*")

    def _steady_after(self, moment: datetime) -> datetime | None:
        """The first slot after ``moment``, searched from one change of the clock to the next."""
        offset = _offset(self.zone, moment)
        # The clock shows none of the times between these two.
        since = moment.replace(tzinfo=None) + offset
        shown = self._shown_after(since)
        while shown is not None:
            slot = (shown - offset).replace(tzinfo=UTC)
            change = _first_change(self.zone, moment, slot)
            if change is None:
                return slot
            moment, offset = change, _offset(self.zone, change)
            before = change.replace(tzinfo=None) + offset - _SECOND
            if not since <= before < shown:
                since, shown = before, self._shown_after(before)
        return None

    def _shown_after(self, since: datetime) -> datetime | None:
        """The first time after ``since`` on a clock that never changes."""
        return next(CronSim(_expression(self.text), since), None)


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _has_changed(zone: tzinfo, since: datetime, seconds: int) -> bool:
    return _offset(zone, since + seconds * _SECOND) != _offset(zone, since)


def _first_change(zone: tzinfo, since: datetime, until: datetime) -> datetime | None:
    """When the clock of a zone changes for the first time after ``since``, if by ``until``."""
    while since < until:
        later = min(since + _BETWEEN_CHANGES, until)
        if _offset(zone, later) != _offset(zone, since):
            return since + _SECOND * bisect_left(
                range(int((later - since).total_seconds())),
                True,
                key=partial(_has_changed, zone, since),
            )
        since = later
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
