"""The lease: renewed whatever the loop does, lost when it must be, back under a new name."""

import asyncio
import time

import pytest

from headrace.lifecycle import Tasks
from headrace.setting_groups import WorkerSettings
from headrace.worker.heartbeat import Heartbeat
from tests.support.waiting import eventually

QUICK = WorkerSettings(lease_seconds=0.9, heartbeat_seconds=0.15, loop_stall_limit_seconds=0.6)


@pytest.fixture
async def heartbeat(database_url):
    made = Heartbeat(database_url, QUICK)
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
    heartbeat = Heartbeat(database_url, QUICK)
    await heartbeat.start()
    process_id = heartbeat.process_id
    first = row(database, process_id)[0]
    await eventually(lambda: row(database, process_id)[0] > first)
    await heartbeat.stop()
    assert row(database, process_id) is None
    await heartbeat.stop()


async def test_it_tells_how_long_the_lease_lasts(database_url, database):
    heartbeat = Heartbeat(database_url, QUICK)
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
