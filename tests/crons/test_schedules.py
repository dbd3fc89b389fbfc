"""Slots of schedules: in UTC, over both changes of the clock, and how near to one another."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.crons.schedules import NoSuchSchedule, Schedule


def slots(text: str, zone: str | None, since: datetime, count: int) -> list[str]:
    """The first slots, each looked for anew, as a process does after each run."""
    schedule, moment, found = Schedule.read(text, zone), since, []
    for _ in range(count):
        slot = schedule.after(moment)
        assert slot is not None
        found.append(f"{slot:%m-%d %H:%M}")
        moment = slot
    return found


def shown_slots(text: str, zone: ZoneInfo, since: datetime, count: int) -> list[str]:
    """As :func:`slots`, but as the clock of the zone shows them."""
    schedule, moment, found = Schedule.read(text, zone.key), since, []
    for _ in range(count):
        slot = schedule.after(moment)
        assert slot is not None
        found.append(f"{slot.astimezone(zone):%m-%d %H:%M}")
        moment = slot
    return found


#: The nights of 28 March and 31 October 2027 in Berlin.
BEFORE_SPRING = datetime(2027, 3, 26, 12, tzinfo=UTC)
BEFORE_AUTUMN = datetime(2027, 10, 29, 12, tzinfo=UTC)


def test_slots_are_in_utc_and_follow_the_clock_of_the_zone():
    noon = datetime(2027, 1, 1, 12, tzinfo=UTC)
    assert slots("0 9 * * *", "Europe/Berlin", noon, 1) == ["01-02 08:00"]
    assert slots("0 9 * * *", "Asia/Kolkata", noon, 1) == ["01-02 03:30"]
    for zone in (None, "UTC"):
        assert slots("*/5 * * * *", zone, noon, 2) == ["01-01 12:05", "01-01 12:10"]


def test_a_schedule_may_have_a_name():
    noon = datetime(2027, 1, 1, 12, tzinfo=UTC)
    for name, slot in (
        ("@hourly", "01-01 13:00"),
        ("@daily", "01-02 00:00"),
        (" @Midnight", "01-02 00:00"),
        ("@weekly", "01-03 00:00"),
        ("@monthly", "02-01 00:00"),
        ("@yearly", "01-01 00:00"),
        ("@annually", "01-01 00:00"),
    ):
        assert slots(name, None, noon, 1) == [slot]


def test_seconds_are_the_last_of_six_fields():
    slot = Schedule.read("0 12 * * * 30", None).after(datetime(2027, 1, 1, 12, tzinfo=UTC))
    assert slot == datetime(2027, 1, 1, 12, 0, 30, tzinfo=UTC)


def test_a_time_that_spring_skips_is_made_up_for_right_after_the_change():
    found = slots("30 2 * * *", "Europe/Berlin", BEFORE_SPRING, 3)
    # 02:30 in winter; 03:00 in summer, the first moment after 01:59; 02:30 in summer.
    assert found == ["03-27 01:30", "03-28 01:00", "03-29 00:30"]


def test_a_time_that_comes_twice_in_autumn_is_used_once():
    found = slots("30 2 * * *", "Europe/Berlin", BEFORE_AUTUMN, 3)
    assert found == ["10-30 00:30", "10-31 00:30", "11-01 01:30"]


@pytest.mark.parametrize("night", [BEFORE_SPRING, BEFORE_AUTUMN])
@pytest.mark.parametrize(("text", "minutes"), [("*/30 * * * *", 30), ("0 * * * *", 60)])
def test_what_repeats_goes_on_as_if_the_clock_had_not_changed(night, text, minutes):
    schedule, found = Schedule.read(text, "Europe/Berlin"), [night]
    for _ in range(3 * 24 * 60 // minutes):
        slot = schedule.after(found[-1])
        assert slot is not None
        found.append(slot)
    assert {later - one for one, later in pairwise(found)} == {timedelta(minutes=minutes)}


def test_from_the_second_of_two_equal_hours_no_slot_of_the_first_is_found():
    second_hour = datetime(2027, 10, 31, 1, 5, tzinfo=UTC)
    assert slots("0-59 2 * * *", "Europe/Berlin", second_hour, 1) == ["11-01 01:00"]


@given(
    st.sampled_from(["30 2 * * *", "0 */2 * * *", "15,45 1-3 * * 1-5", "*/7 2 * * *", "0 3 L * *"]),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 3 * 365 * 86_400),
)
def test_a_slot_is_always_later_than_the_one_before(text, zone, seconds):
    schedule, moment = Schedule.read(text, zone), BEFORE_SPRING + timedelta(seconds=seconds)
    for _ in range(5):
        slot = schedule.after(moment)
        assert slot is not None
        assert slot > moment
        assert slot.tzinfo is UTC
        moment = slot


@pytest.mark.parametrize("day", ["2026-04-05", "2026-10-04"])
def test_a_change_of_half_an_hour_takes_no_slot_from_the_day(day):
    zone = ZoneInfo("Australia/Lord_Howe")
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    found = shown_slots("*/10 10 * * *", zone, midnight, 6)
    assert found == [f"{midnight:%m-%d} 10:{minute}0" for minute in range(6)]


#: Days at which clocks change: by an hour, two hours or half an hour, at midnight, by a whole day;
#: and one of a zone whose clock does not change.
CHANGES = [
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
    ("Asia/Kolkata", "2026-03-29"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Europe/London", "2026-03-29"),
    ("Europe/London", "2026-10-25"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("America/St_Johns", "2011-03-13"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Apia", "2012-04-01"),
]
MINUTES = {"*": range(60), "*/10": range(0, 60, 10), "5": [5], "0,15,45": [0, 15, 45]}
HOURS = {"*": range(24), "*/3": range(0, 24, 3), "10": [10], "0-3": range(4), "1,2,23": [1, 2, 23]}
DAYS = {"*": range(1, 32), "30": [30], "1,4,29": [1, 4, 29]}


def enumerated(fields: tuple[str, str, str], zone: ZoneInfo, first: datetime, minutes: int):
    """The slots, by the clock of the zone at each minute, without a search for any."""
    minute, hour, day = fields
    steady = minute.startswith("*") or hour.startswith("*")
    step = timedelta(minutes=1)
    highest: datetime | None = None
    for passed in range(-24 * 60, minutes):
        moment = first + passed * step
        shown = moment.astimezone(zone).replace(tzinfo=None)
        # Else the clock has passed these times since the last minute: none, if it shows old ones.
        since = shown - step if steady or highest is None else highest
        times = (since + n * step for n in range(1, (shown - since) // step + 1))
        if passed >= 0 and any(
            one.minute in MINUTES[minute] and one.hour in HOURS[hour] and one.day in DAYS[day]
            for one in times
        ):
            yield moment
        highest = max(highest or shown, shown)


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(*map(st.sampled_from, (list(MINUTES), list(HOURS), list(DAYS)))),
    st.sampled_from(CHANGES),
    st.integers(-24 * 60, 0),
    st.data(),
)
def test_slots_are_those_of_the_clock_wherever_one_asks_from(fields, change, earlier, data):
    name, day = change
    zone, span = ZoneInfo(name), 2 * 24 * 60
    first = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=earlier)
    schedule = Schedule.read(" ".join((*fields, "*", "*")), name)
    expected = list(enumerated(fields, zone, first, span))
    moment, stepped = first - timedelta(seconds=1), []
    end = first + timedelta(minutes=span)
    while (slot := schedule.after(moment)) is not None and slot < end:
        stepped.append(slot)
        moment = slot
    assert stepped == expected
    for _ in range(5):
        asked = first + timedelta(seconds=data.draw(st.integers(0, span * 60 - 1)))
        later = [slot for slot in expected if slot > asked]
        found = schedule.after(asked)
        assert found == later[0] if later else found is None or found >= end


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0,59 * * * *", 60),
        ("0,59 6,12 * * *", 59 * 60),
        ("0 6,8 * * *", 7200),
        ("0 0,23 * * *", 3600),
        ("0 9 * * 1", 86_400),
        ("* * * * * */20", 20),
        ("0 * * * * 0,50", 50),
        ("@hourly", 3600),
        ("@weekly", 86_400),
    ],
)
def test_the_least_time_between_two_slots_is_known(text, seconds):
    assert Schedule.read(text, None).least_gap_seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "bad",
        "* * * *",
        "61 * * * *",
        "* * * * mon-",
        "*/0 * * * *",
        "@reboot",
        "@daily 5",
        "0 0 31 2 *",
        "é * * * *",
    ],
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(NoSuchSchedule, match="Invalid cron schedule"):
        Schedule.read(text, None)


@given(st.text(alphabet="0123456789*/,-#LW MONé", max_size=40))
def test_no_text_raises_anything_else(text):
    try:
        schedule = Schedule.read(text, None)
    except NoSuchSchedule:
        return
    assert schedule.least_gap_seconds > 0


@pytest.mark.parametrize("name", ["Mars/Base", "../etc/passwd", "/etc/passwd", "x" * 255, "Europe"])
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(NoSuchSchedule, match="IANA"):
        Schedule.read("* * * * *", name)


def test_a_schedule_without_slots_is_found_out_soon():
    """Every minute of the 1st and 21st, where that is also the last Monday of the month."""
    begun = process_time()
    assert Schedule.read("* * */20 * 1L", None).after(BEFORE_SPRING) is None
    assert process_time() - begun < 1.0
