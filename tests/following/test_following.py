"""Runs followed from another process: nothing missed, nothing twice, soon, and to the end."""

import asyncio
import time
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph

from headrace.auth.principal import ANONYMOUS
from headrace.checkpoints.fence import process_key
from headrace.events.event import Event
from headrace.events.reader import EventReader, FollowingStopped
from headrace.following.followed_run import FollowedRun
from headrace.lifecycle import Tasks
from headrace.runs.response_bodies import event_frames
from headrace.runs.schemas import MultitaskStrategy, RunCreate
from headrace.unavailable_errors import Draining
from tests.support.pace import within
from tests.support.pair import Process, open_states
from tests.support.waiting import eventually

SECONDS = 15


class Talk(TypedDict, total=False):
    said: int


class Talker:
    """A graph that says what it is told to, until it is told to stop."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[Any] = asyncio.Queue()
        self.stopped = 0
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(Talk)
        builder.add_node("talk", self._talk)
        builder.add_edge(START, "talk")
        builder.add_edge("talk", END)
        self.graph = builder

    def say(self, *lines: object) -> None:
        for line in lines:
            self.lines.put_nowait(line)

    def stop(self) -> None:
        self.lines.put_nowait(None)

    async def _talk(self, state: Talk) -> Talk:
        said = 0
        try:
            while (line := await self.lines.get()) is not None:
                get_stream_writer()(line)
                said += 1
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return {"said": said}


@pytest.fixture
def talker():
    return Talker()


async def start(
    state: Process, *, resumable: bool = False, strategy: MultitaskStrategy | None = None
) -> FollowedRun:
    body = RunCreate(
        assistant_id="talker",
        input={"said": 0},
        stream_mode=["custom"],
        stream_resumable=resumable,
        multitask_strategy=strategy,
        if_not_exists="create",
    )
    thread_id = "11111111-1111-4111-8111-111111111111"
    return await state.runs.create(ANONYMOUS, thread_id, body, request_id="")


async def follow(state: Process, run: FollowedRun) -> FollowedRun:
    return await state.runs.follow(ANONYMOUS, run.thread_id, run.run_id)


async def read(reader: EventReader, count: int | None = None) -> list[Event]:
    """So many events, or all to the end."""
    got: list[Event] = []
    async with asyncio.timeout(SECONDS):
        while count is None or len(got) < count:
            events = await reader.read(SECONDS)
            if events is None:
                break
            got += events
    return got


def told(events: list[Event]) -> list[tuple[str, bytes]]:
    return [(event.name, event.data) for event in events if event.name != "metadata"]


def custom(*lines: int) -> list[tuple[str, bytes]]:
    return [("custom", str(line).encode()) for line in lines]


async def watched(owner: Process, run: FollowedRun) -> None:
    """Its owner has learnt that the run is watched."""

    def marked() -> bool:
        execution = owner.worker.execution_of(run.run_id)
        return execution is not None and execution.channel.watched

    await eventually(marked)


async def test_a_rejoin_at_each_event_elsewhere_sees_no_gap_and_no_duplicate(database_url, talker):
    async with open_states(
        database_url, {"talker": talker.graph}, events={"batch_events": 3, "ring_events": 4}
    ) as (here, there):
        run = await start(here, resumable=True)
        first = run.subscribe()
        talker.say(*range(10))
        seen = await read(first, 11)
        assert [event.event_id for event in seen] == list(range(1, 12))
        joined = [
            ((await follow(state, run)).subscribe(after), after)
            for state in (here, there)
            for after in (-1, *range(12))
        ]
        talker.say(*range(10, 20))
        talker.stop()
        whole = seen + await read(first)
        assert told(whole)[:-1] == custom(*range(20))
        assert whole[-1].name == "end"
        for reader, after in joined:
            assert await read(reader) == [
                event for event in whole if event.event_id > after or event.name == "end"
            ], after
        for state in (here, there):
            for after in range(-1, 22):
                reader = (await follow(state, run)).subscribe(after)
                assert await read(reader) == [
                    event for event in whole if event.event_id > after or event.name == "end"
                ]
            assert await read((await follow(state, run)).subscribe()) == []


async def test_a_run_that_is_not_resumable_is_stored_while_it_is_watched(
    database_url, talker, database
):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here)
        first = run.subscribe()
        talker.say(0, 1, 2)
        await read(first, 4)
        assert database.execute("SELECT count(*) FROM run_events").fetchone() == (0,)
        reader = (await follow(there, run)).subscribe()
        assert told(await read(reader, 4)) == custom(0, 1, 2)
        began = time.monotonic()
        talker.say(3)
        assert told(await read(reader, 1)) == custom(3)
        print(f"an event reached the other process after {time.monotonic() - began:.3f} s")
        talker.stop()
        rest = await read(reader)
        assert [event.name for event in rest] == ["end"]
        assert b"id:" not in rest[0].frame
        assert await read((await follow(there, run)).subscribe()) == []


async def test_a_join_elsewhere_gets_the_values(database_url, talker):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here)
        joined = await follow(there, run)
        assert await joined.outcome(0.1) is None
        talker.say("a", "b")
        talker.stop()
        outcome = await joined.outcome(SECONDS)
        assert outcome is not None
        assert (outcome.status, outcome.values, outcome.error) == ("success", {"said": 2}, None)
        own = await run.outcome(SECONDS)
        assert own is not None
        assert own.values == outcome.values


@pytest.mark.parametrize("deleted", ["run", "thread"])
async def test_a_run_that_is_gone_looks_the_same_from_all_processes(database_url, talker, deleted):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here, resumable=True)
        talker.say("a")
        await read(run.subscribe(), 1)
        joined = [await follow(state, run) for state in (here, there)]
        readers = [one.subscribe(-1) for one in joined]
        for reader in readers:
            await read(reader, 2)
        if deleted == "run":
            await here.runs.cancel(ANONYMOUS, run.thread_id, run.run_id, "rollback")
        else:
            await here.thread_removal.delete(ANONYMOUS, run.thread_id)
        outcomes = [await one.outcome(SECONDS) for one in joined]
        assert [(one.status, one.values) for one in outcomes if one] == [("interrupted", None)] * 2
        last = [(await read(reader))[-1] for reader in readers]
        assert [event.name for event in last] == ["end" if deleted == "run" else "error"] * 2


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize(("notices", "bound"), [("auto", 1.0), ("off", 1.5)])
async def test_a_cancel_written_elsewhere_stops_the_run_and_stands_in_the_row(
    database_url, talker, database, notices, bound
):
    async with open_states(database_url, {"talker": talker.graph}, events={"notices": notices}) as (
        here,
        there,
    ):
        run = await start(here)
        talker.say(1)
        await read(run.subscribe(), 1)
        joined = await follow(there, run)
        waiting = joined.subscribe()
        began = time.monotonic()
        database.execute("UPDATE runs SET cancel_action = 'interrupt'")
        if notices == "auto":
            database.execute("SELECT pg_notify('headrace', %s)", (f"r {run.run_id}",))
        await eventually(lambda: talker.stopped)
        stopped = time.monotonic() - began

        def status() -> object:
            return database.execute("SELECT status FROM runs").fetchone()

        await eventually(lambda: status() == ("interrupted",))
        print(f"{notices}: stopped after {stopped:.3f} s, row {time.monotonic() - began:.3f} s")
        assert stopped < bound
        assert time.monotonic() - began < bound + 0.2
        assert (await read(waiting))[-1].name == "end"


# It has a bound on time.
@pytest.mark.alone
async def test_with_its_listener_killed_a_watcher_hears_by_polling(database_url, talker, database):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here)
        reader = (await follow(there, run)).subscribe()
        await watched(here, run)
        talker.say(1)
        await read(reader, 1)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query = 'LISTEN headrace' AND datname = current_database()"
        )
        began = time.monotonic()
        talker.say(2)
        assert told(await read(reader, 1)) == custom(2)
        print(f"heard after {time.monotonic() - began:.3f} s")
        assert time.monotonic() - began < within(1.5)
        talker.stop()
        await read(reader)


async def test_a_run_that_moves_is_followed_on(database_url, talker, database):
    """Taken from its process as a rescue does it, and ended there."""
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here, resumable=True)
        reader = run.subscribe()
        elsewhere = (await follow(there, run)).subscribe(-1)
        talker.say(1)
        assert told(await read(reader, 2)) == custom(1)
        assert told(await read(elsewhere, 2)) == custom(1)
        row = database.execute("SELECT process_id FROM runs").fetchone()
        assert row is not None
        take_over(database, run.run_id, row[0])
        talker.say(2)
        await eventually(lambda: here.worker.running == 0)
        database.execute(
            "INSERT INTO run_events (run_id, event_id, attempt, event, data)"
            " VALUES (%s, 3, 2, 'custom', '7')",
            (run.run_id,),
        )
        database.execute(
            "UPDATE runs SET status = 'error', ended_at = now(), error = %s",
            ('{"error": "E", "message": "m"}',),
        )
        for one in (reader, elsewhere):
            assert told(await read(one)) == [
                *custom(7),
                ("error", b'{"error":"E","message":"m"}'),
            ]
        outcome = await run.outcome(SECONDS)
        assert outcome is not None
        assert outcome.error == {"error": "E", "message": "m"}


def take_over(database, run_id: UUID, process_id: UUID) -> None:
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(%s)", (process_key(process_id),))
        database.execute(
            "UPDATE runs SET attempt = 2, process_id = gen_random_uuid() WHERE run_id = %s",
            (run_id,),
        )


async def test_a_draining_process_lets_go_of_runs_elsewhere(database_url, talker):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here)
        joined = await follow(there, run)
        frames = event_frames(joined, joined.subscribe(), heartbeat_seconds=SECONDS)
        await watched(here, run)
        talker.say(1)
        body = b""
        async with asyncio.timeout(SECONDS):
            while b"custom" not in body:
                body += await anext(frames)
            await there.drain.drain(close_listeners=lambda: None)
            rest = [chunk async for chunk in frames]
        assert rest == [b": the run goes on; connect again\r\nretry: 1000\r\n\r\n"]
        with pytest.raises(FollowingStopped):
            await joined.outcome(SECONDS)
        assert here.worker.running == 1
        # The run is asked to stop; another process tells whether it has.
        with pytest.raises(Draining):
            await there.runs.delete(ANONYMOUS, run.thread_id, run.run_id, timeout_seconds=SECONDS)
        talker.stop()
        assert await run.outcome(SECONDS) is not None


async def test_a_slow_reader_elsewhere_has_a_page_in_memory_and_misses_nothing(
    database_url, talker, database
):
    async with open_states(database_url, {"talker": talker.graph}, events={"batch_events": 5}) as (
        here,
        there,
    ):
        run = await start(here)
        reader = (await follow(there, run)).subscribe()
        await watched(here, run)
        talker.say(*range(100))
        talker.stop()
        assert await run.outcome(SECONDS) is not None
        events = await reader.read(SECONDS)
        assert events is not None
        assert len(events) <= 5
        assert told([*events, *await read(reader)])[:-1] == custom(*range(100))


async def test_a_queued_run_is_streamed_to_its_creator_from_the_first_event(database_url, talker):
    """Whoever claims it, and however soon it is through."""
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        first = await start(here)
        second = await start(there)
        reader = second.subscribe()
        waiting = Tasks().start(second.outcome(SECONDS), name="waiting")
        talker.say(1)
        talker.stop()
        talker.say(2, 3)
        talker.stop()
        assert await first.outcome(SECONDS) is not None
        events = await read(reader)
        assert events[0].name == "metadata"
        assert told(events)[:-1] == custom(2, 3)
        assert events[-1].name == "end"
        outcome = await waiting
        assert outcome is not None
        assert outcome.values == {"said": 2}


async def test_a_run_that_a_drain_releases_is_followed_on_with_rising_ids(database_url, talker):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here, resumable=True)
        own = run.subscribe()
        elsewhere = (await follow(there, run)).subscribe(-1)
        talker.say(1)
        before = await read(elsewhere, 2)
        assert await read(own, 2) == before
        await here.drain.drain(close_listeners=lambda: None)
        with pytest.raises(FollowingStopped):
            await read(own)
        talker.say(2)
        talker.stop()
        after = await read(elsewhere)
        assert [event.name for event in after] == ["metadata", "custom", "end"]
        assert b'"attempt":2' in after[0].data
        ids = [event.event_id for event in (*before, *after[:-1])]
        assert ids == [1, 2, 3, 4]


async def test_a_run_that_makes_way_for_one_of_another_process_is_told_at_once(
    database_url, talker, database
):
    # Long enough apart for the look at the rows not to be what tells it.
    events = {"poll_seconds": 30.0}
    async with open_states(database_url, {"talker": talker.graph}, events=events) as (here, there):
        run = await start(here)
        talker.say(1)
        await read(run.subscribe(), 1)
        await start(there, strategy="interrupt")
        outcome = await run.outcome(SECONDS)
        assert outcome is not None
        assert outcome.status == "interrupted"
        talker.stop()


# It has a bound on time.
@pytest.mark.alone
async def test_a_cancel_through_another_process_is_in_the_row_soon(database_url, talker, database):
    async with open_states(database_url, {"talker": talker.graph}) as (here, there):
        run = await start(here)
        talker.say(1)
        await read(run.subscribe(), 1)
        joined = await follow(there, run)
        began = time.monotonic()
        there.runs.cancel_soon(joined, "enough")
        await eventually(lambda: talker.stopped)
        stopped = time.monotonic() - began
        outcome = await joined.outcome(SECONDS)
        print(f"stopped after {stopped:.3f} s, told after {time.monotonic() - began:.3f} s")
        assert outcome is not None
        assert outcome.status == "interrupted"
        assert database.execute("SELECT status FROM runs").fetchone() == ("interrupted",)
        assert time.monotonic() - began < within(1.2)
