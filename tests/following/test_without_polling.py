"""What one process does reaches another by notice: rows are looked at every 30 s only.

Bounds are far above what is measured on a quiet machine (0.01 to 0.05 s) and far below a round.
"""

import time

import psycopg
import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.errors import RunNotFound
from headrace.following.followed_run import FollowedRun
from headrace.lifecycle import Tasks
from headrace.runs.schemas import RunCreate
from tests.following.test_following import SECONDS, Talker, custom, follow, read, told
from tests.support.pair import Process, open_states
from tests.support.waiting import eventually

THREAD = "22222222-2222-4222-8222-222222222222"
SOON_SECONDS = 5.0


_LISTENERS = """
SELECT count(*) FROM pg_stat_activity
WHERE query = 'LISTEN headrace' AND state = 'idle' AND datname = current_database()
"""


@pytest.fixture
async def pair(database_url):
    talker = Talker()
    with psycopg.connect(database_url, autocommit=True) as database:
        async with open_states(
            database_url, {"talker": talker.graph}, events={"poll_seconds": 30.0}
        ) as (here, there):
            await eventually(lambda: database.execute(_LISTENERS).fetchone() == (2,))
            yield here, there, talker


async def start(state: Process, thread_id: str = THREAD, **body: object) -> FollowedRun:
    asked = RunCreate.model_validate(
        {
            "assistant_id": "talker",
            "input": {"said": 0},
            "stream_mode": ["custom"],
            "if_not_exists": "create",
            **body,
        }
    )
    return await state.runs.create(ANONYMOUS, thread_id, asked, request_id="")


class Clock:
    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()

    def soon(self) -> None:
        took = time.monotonic() - self._began
        print(f"{self._what}: {took:.3f} s")
        assert took < SOON_SECONDS


async def test_a_join_hears_the_end_of_a_run_that_nobody_watched(pair):
    here, there, talker = pair
    run = await start(here)
    joined = await follow(there, run)
    assert await joined.outcome(0.1) is None
    clock = Clock("end")
    talker.stop()
    outcome = await joined.outcome(SECONDS)
    clock.soon()
    assert outcome is not None
    assert (outcome.status, outcome.values) == ("success", {"said": 0})


async def test_a_join_that_comes_with_the_end_hears_it_as_well(pair):
    """Its mark, its look at the row and the end of the run in every order."""
    here, there, talker = pair
    waiting = Tasks()
    for _ in range(15):
        run = await start(here)
        joined = await follow(there, run)
        clock = Clock("end")
        told_there = waiting.start(joined.outcome(SECONDS), name="joined")
        talker.stop()
        outcome = await told_there
        clock.soon()
        assert outcome is not None
        assert outcome.status == "success"


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_stream_gets_first_events_and_end(pair, resumable):
    here, there, talker = pair
    run = await start(here, stream_resumable=resumable)
    own = run.subscribe()
    talker.say(1)
    assert told(await read(own, 2)) == custom(1)
    clock = Clock("first events")
    reader = (await follow(there, run)).subscribe(-1 if resumable else None)
    assert told(await read(reader, 2)) == custom(1)
    clock.soon()
    clock = Clock("next event")
    talker.say(2)
    assert told(await read(reader, 1)) == custom(2)
    clock.soon()
    clock = Clock("end")
    talker.stop()
    assert [event.name for event in await read(reader)] == ["end"]
    clock.soon()


async def test_events_of_a_run_from_the_queue_reach_who_waited_for_it_elsewhere(pair):
    here, there, talker = pair
    first = await start(here)
    own = first.subscribe()
    second = await start(here)
    reader = (await follow(there, second)).subscribe()
    talker.say(1)
    await read(own, 2)
    clock = Clock("claim and first event")
    talker.stop()
    talker.say(7)
    assert told(await read(reader, 2)) == custom(7)
    clock.soon()
    talker.stop()
    await read(reader)


async def test_what_waits_behind_a_run_that_is_rolled_back_begins_at_once(pair):
    here, there, talker = pair
    first = await start(here)
    own = first.subscribe()
    talker.say(1)
    await read(own, 2)
    clock = Clock("rolled back and begun")
    second = await start(there, multitask_strategy="rollback")
    await eventually(lambda: talker.stopped)
    talker.say(7)
    assert told(await read(second.subscribe(), 2)) == custom(7)
    clock.soon()
    talker.stop()
    with pytest.raises(RunNotFound):
        await follow(here, first)


async def test_who_waits_for_a_queued_run_hears_that_another_has_ended_it(pair):
    here, there, talker = pair
    first = await start(here)
    own = first.subscribe()
    talker.say(1)
    await read(own, 2)
    second = await start(here)
    reader = second.subscribe()
    # Whoever waits has looked at its row by then.
    assert await second.outcome(0.2) is None
    clock = Clock("told")
    await start(there, multitask_strategy="interrupt")
    assert [event.name for event in await read(reader)] == ["end"]
    clock.soon()
    talker.stop()


@pytest.mark.parametrize("whole_thread", [False, True])
@pytest.mark.parametrize("resumable", [False, True])
async def test_who_streams_a_run_that_is_deleted_gets_an_error(pair, whole_thread, resumable):
    here, there, talker = pair
    run = await start(here, stream_resumable=resumable)
    own = run.subscribe()
    talker.say(1)
    await read(own, 2)
    elsewhere = (await follow(there, run)).subscribe(-1 if resumable else None)
    await read(elsewhere, 2)
    clock = Clock("deleted")
    if whole_thread:
        await there.thread_removal.delete(ANONYMOUS, THREAD)
    else:
        await there.runs.delete(ANONYMOUS, THREAD, run.run_id, timeout_seconds=SECONDS)
    for reader in (own, elsewhere):
        (last,) = await read(reader)
        assert last.name == "error"
        assert last.data == b'{"error":"HTTPException","message":"404: Run not found"}'
    clock.soon()
    with pytest.raises(RunNotFound):
        await follow(here, run)


# It has a bound on time.
@pytest.mark.alone
async def test_a_run_for_later_begins_at_its_time(pair):
    here, _, talker = pair
    # The rounds of the queue are a second apart: at their time, three of three by chance are rare.
    for number in range(3):
        talker.stop()
        began = time.monotonic()
        run = await start(here, thread_id=f"{number}{THREAD[1:]}", after_seconds=0.4)
        assert await run.outcome(SECONDS) is not None
        took = time.monotonic() - began
        print(f"for later: {took:.3f} s")
        assert 0.4 <= took < 0.4 + 0.3
