"""The lease: renewed whatever the loop does, lost when it must be, back under a new name."""

import asyncio
import time

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from headrace.db.logins import Login
from headrace.errors import StartupRefusal
from headrace.lifecycle import Tasks
from headrace.setting_groups import WorkerSettings
from headrace.worker.heartbeat import Heartbeat
from tests.support.runs import OTHER_TIMELINE, present_timeline, set_timeline
from tests.support.waiting import eventually

QUICK = WorkerSettings(lease_seconds=0.9, heartbeat_seconds=0.15, loop_stall_limit_seconds=0.6)


@pytest.fixture
async def heartbeat(database_url):
    made = Heartbeat(Login(database_url), QUICK)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def lost(heartbeat):
    """How often the lease was lost."""
    losses: list[bool] = []

    async def count() -> None:
        while True:
            await heartbeat.until_lost()
            losses.append(True)

    tasks = Tasks()
    tasks.start(count(), name="losses")
    yield losses
    await tasks.stop()


def row(database, process_id):
    return database.execute(
        "SELECT heartbeat_at, lost FROM processes WHERE process_id = %s", (process_id,)
    ).fetchone()


async def next_beat(database, process_id):
    before = row(database, process_id)[0]
    await eventually(lambda: row(database, process_id)[0] > before)


async def test_it_registers_renews_and_leaves(database_url, database):
    heartbeat = Heartbeat(Login(database_url), QUICK)
    await heartbeat.start()
    process_id = heartbeat.process_id
    first = row(database, process_id)[0]
    await eventually(lambda: row(database, process_id)[0] > first)
    await heartbeat.stop()
    assert row(database, process_id) is None
    await heartbeat.stop()


async def test_a_server_that_takes_no_writes_is_refused_at_the_start(database_url):
    read_only = make_conninfo(database_url, options="-c default_transaction_read_only=on")
    with pytest.raises(StartupRefusal, match="read-only"):
        await Heartbeat(Login(read_only), QUICK).start()


async def test_it_tells_how_long_the_lease_lasts(database_url, database):
    heartbeat = Heartbeat(Login(database_url), QUICK)
    assert heartbeat.lease_left_seconds is None
    await heartbeat.start()
    left = heartbeat.lease_left_seconds
    assert left is not None
    assert 0 < left <= QUICK.lease_seconds
    await next_beat(database, heartbeat.process_id)
    # Only a renewal makes it longer.
    before = heartbeat.lease_left_seconds
    await eventually(lambda: (heartbeat.lease_left_seconds or 0) > before)
    await heartbeat.stop()
    assert heartbeat.lease_left_seconds is None


# It has a bound on time.
@pytest.mark.alone
async def test_a_blocked_loop_loses_nothing_for_a_while(heartbeat, lost, database):
    process_id = heartbeat.process_id
    before = row(database, process_id)[0]
    time.sleep(0.5)  # noqa: ASYNC251 - blocking the loop is the point
    assert row(database, process_id)[0] > before
    await asyncio.sleep(0)
    assert heartbeat.process_id == process_id
    assert lost == []


# It has a bound on time.
@pytest.mark.alone
async def test_a_loop_that_is_silent_too_long_is_no_longer_vouched_for(heartbeat, lost, database):
    process_id = heartbeat.process_id
    time.sleep(1.9)  # noqa: ASYNC251 - blocking the loop is the point
    assert database.execute(
        "SELECT heartbeat_at < clock_timestamp() - interval '0.9 seconds' FROM processes"
        " WHERE process_id = %s",
        (process_id,),
    ).fetchone() == (True,)
    await eventually(lambda: lost)
    await eventually(lambda: heartbeat.process_id not in (None, process_id))


async def test_marked_lost_by_another_it_drops_its_runs_and_comes_back_anew(
    heartbeat, lost, database
):
    process_id = heartbeat.process_id
    database.execute("UPDATE processes SET lost = true")
    await eventually(lambda: lost)
    await eventually(lambda: heartbeat.process_id not in (None, process_id))
    assert row(database, process_id)[1] is True
    assert row(database, heartbeat.process_id)[1] is False


async def test_a_killed_connection_costs_no_lease(heartbeat, lost, database):
    process_id = heartbeat.process_id
    for _ in range(3):
        killed = database.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()[0]
        await next_beat(database, process_id)
        assert killed <= 1
    assert heartbeat.process_id == process_id
    assert lost == []


async def test_it_judges_others_only_after_a_whole_lease_of_its_own(heartbeat, database):
    assert not heartbeat.judges_others
    await eventually(lambda: heartbeat.judges_others)
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await eventually(lambda: not heartbeat.judges_others)
    await eventually(lambda: heartbeat.judges_others)


def timeline(database, process_id):
    return database.execute(
        "SELECT timeline FROM processes WHERE process_id = %s", (process_id,)
    ).fetchone()[0]


async def test_the_lease_ends_with_the_timeline_of_the_server(heartbeat, lost, database):
    before = heartbeat.process_id
    present = present_timeline(database)
    assert timeline(database, before) == present
    await next_beat(database, before)
    with capture_logs() as lines:
        set_timeline(database, before, OTHER_TIMELINE)
        await eventually(lambda: lost)
        await eventually(lambda: heartbeat.process_id not in (None, before))
    assert timeline(database, heartbeat.process_id) == present
    reasons = [line["reason"] for line in lines if line["event"] == "lease_lost"]
    assert reasons == ["timeline_changed"]
    await next_beat(database, heartbeat.process_id)
    assert len(lost) == 1


async def test_a_server_that_does_not_tell_its_timeline_serves_without_it(database_url, database):
    """As a managed one without functions for its WAL."""
    database.execute("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
    database.execute("CREATE ROLE plain LOGIN")
    try:
        database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
        with capture_logs() as lines:
            heartbeat = Heartbeat(Login(make_conninfo(database_url, user="plain")), QUICK)
            await heartbeat.start()
            await next_beat(database, heartbeat.process_id)
            assert timeline(database, heartbeat.process_id) is None
            await heartbeat.stop()
        assert [line["event"] for line in lines].count("timeline_unknown") == 1
    finally:
        database.execute("DROP OWNED BY plain")
        database.execute("DROP ROLE plain")


async def test_the_fence_of_timelines_may_be_off(database_url, database):
    heartbeat = Heartbeat(Login(database_url), QUICK, timeline_fence=False)
    await heartbeat.start()
    try:
        assert timeline(database, heartbeat.process_id) is None
    finally:
        await heartbeat.stop()
