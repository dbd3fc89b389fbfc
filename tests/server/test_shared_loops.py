"""Loops that all callers share: one value spoils nobody else, and a loop that dies comes back."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.events.reader import FollowingStopped
from headrace.events.sse import RELEASED
from headrace.following.followed_run import FollowedRun
from headrace.following.thread_runs import LastSeen
from headrace.runs.schemas import RunCreate
from headrace.threads.schemas import ThreadCreate
from tests.following.test_following import Talker, custom, follow, read, told
from tests.support.pair import Process, open_states
from tests.support.shared_loops import LOOPS
from tests.support.waiting import eventually

#: No column for event ids holds it.
TOO_LARGE = 99999999999999999999
GOOD, BAD = str(uuid4()), str(uuid4())


@pytest.fixture
def talker():
    return Talker()


async def start(state: Process, thread_id: str, *, after_seconds: float = 0) -> FollowedRun:
    body = RunCreate(
        assistant_id="talker",
        input={"said": 0},
        stream_mode=["custom"],
        stream_resumable=True,
        if_not_exists="create",
        after_seconds=after_seconds,
    )
    return await state.runs.create(ANONYMOUS, thread_id, body, request_id="")


def faults(state: Process) -> dict[str, float]:
    """Ends of loops that were not asked for, by loop."""
    return {
        sample.labels["task"]: sample.value
        for family in state.metrics.families()
        for sample in family.samples
        if sample.name == "headrace_background_faults_total" and sample.value
    }


async def test_an_event_id_that_no_column_holds_fails_its_own_reader(database_url, talker):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here, GOOD)
        readers = [(await follow(there, run)).subscribe(-1) for _ in range(3)]
        poisoned = (await follow(there, run)).subscribe(TOO_LARGE)
        streams = [
            await there.thread_streams.open(ANONYMOUS, GOOD, ["run_modes"], seen)
            for seen in (LastSeen(run.run_id, TOO_LARGE), "nothing")
        ]
        talker.say(*range(5))
        talker.stop()
        with pytest.raises(FollowingStopped):
            await read(poisoned)
        for reader in readers:
            assert told(await read(reader))[:-1] == custom(*range(5))
        async with asyncio.timeout(10):
            bad = [frame async for frame in streams[0].frames()]
            good = b""
            async for frame in streams[1].frames():
                good += frame
                if b"run_done" in good:
                    break
        assert bad[-1] == RELEASED
        assert good.count(b"event: custom") == 5
        assert (await (await follow(there, run)).outcome(10)) is not None
        assert faults(there) == {}


async def test_a_row_that_cannot_be_read_fails_its_own_follower(database_url, database, talker):
    events = {"poll_seconds": 0.05}
    async with open_states(database_url, {"talker": talker.graph}, events=events) as (here, there):
        for name in (GOOD, BAD):
            await here.threads.create(ANONYMOUS, ThreadCreate(thread_id=name, if_exists="raise"))
        good, bad = [
            await there.thread_streams.open(ANONYMOUS, name, ["run_modes"], None)
            for name in (GOOD, BAD)
        ]
        # Python has no such time.
        query = "UPDATE threads SET state_updated_at = 'infinity' WHERE thread_id = %s"
        database.execute(query, (BAD,))
        async with asyncio.timeout(10):
            assert [frame async for frame in bad.frames()][-1] == RELEASED
            await start(here, GOOD)
            talker.say(1)
            talker.stop()
            async for frame in good.frames():
                if b"run_done" in frame:
                    break
        assert faults(there) == {}


@pytest.mark.parametrize("kwargs", ["[]", '"text"', "null"])
async def test_a_queued_run_that_cannot_be_read_ends_and_the_others_run(
    database_url, database, talker, kwargs
):
    async with open_states(database_url, {"talker": talker.graph}, count=1) as (here,):
        for name in (BAD, GOOD):
            await start(here, name)
        bad, good = [await start(here, name) for name in (BAD, GOOD)]
        database.execute("UPDATE runs SET kwargs = %s WHERE run_id = %s", (kwargs, bad.run_id))
        for _ in range(3):
            talker.stop()
        outcome = await good.outcome(10)
        assert outcome is not None
        assert outcome.status == "success"

        def status() -> Any:
            query = "SELECT status FROM runs WHERE run_id = %s"
            return database.execute(query, (bad.run_id,)).fetchone()[0]

        await eventually(lambda: status() == "error")
        assert faults(here) == {}


async def test_loops_that_somebody_cancels_come_back(database_url, talker):
    """As a graph does that cancels all tasks it can find, to clean up after itself."""
    async with open_states(database_url, {"talker": talker.graph}, count=1) as (here,):
        found = [one for one in asyncio.all_tasks() if one.get_name() in LOOPS]
        assert {one.get_name() for one in found} == LOOPS
        for one in found:
            one.cancel()
        await asyncio.wait(found)
        await eventually(
            lambda: {one.get_name() for one in asyncio.all_tasks()} >= {o.get_name() for o in found}
        )
        # Claimed, watched, told of.
        run = await start(here, GOOD, after_seconds=0.1)
        talker.stop()
        outcome = await run.outcome(10)
        assert outcome is not None
        assert outcome.status == "success"
        assert faults(here) == {one.get_name(): 1.0 for one in found}
        assert here.health.unready_reasons() == []
