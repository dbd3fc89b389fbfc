"""Who is cut, and who is not: time without progress first, then the memory of all readers."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest

from headrace.event_settings import EventSettings
from headrace.events.channel import Channel
from headrace.events.json_encoding import PIECE_BYTES
from headrace.events.reader import ChannelReader
from headrace.events.reader_buffers import BrokenOff, BufferBudget, Cut
from tests.support.waiting import eventually

KIB = 1024


class Process:
    """A budget, and the channels of its runs."""

    def __init__(self, **settings: float) -> None:
        self.settings = EventSettings.model_validate({"buffer_bytes": 64 * KIB, **settings})
        self.cut: list[str] = []
        self.reader_budget = BufferBudget(self.settings, on_cut=self.cut.append)

    def run(self) -> Channel:
        return Channel(self.settings, reader_budget=self.reader_budget)


async def take(reader: ChannelReader) -> int:
    """What waits, as a client that reads at once takes it."""
    taken = 0
    while events := await reader.read(0.01):
        taken += len(events)
    return taken


@asynccontextmanager
async def slowly(reader: ChannelReader, pause_seconds: float) -> AsyncIterator[list[int]]:
    """A client that takes a piece in each pause; what it has taken, in bytes."""
    taken: list[int] = []

    async def read() -> None:
        with suppress(Cut):
            while (events := await reader.read(9)) is not None:
                frames = [event.frame for event in events]
                events = ()
                for piece in reader.pieces(frames):
                    taken.append(len(piece))
                    await asyncio.sleep(pause_seconds)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        yield taken
        reading.cancel()


async def until_told(run: Channel, count: int, size: int) -> float:
    """Publish as a graph does; how long that took."""
    began_at = monotonic()
    async with asyncio.timeout(10):
        for _ in range(count):
            run.publish("values", "x" * size)
            await run.room()
            await asyncio.sleep(0)
    return monotonic() - began_at


async def test_one_that_reads_at_once_is_not_cut_however_large_the_events_are():
    process = Process()
    run = process.run()
    reader = run.subscribe()
    for _ in range(8):
        # Several before it gets a turn, as one step of a graph tells them.
        run.publish("values", "x" * 100 * KIB)
    assert await take(reader) == 8
    assert not process.cut
    assert process.reader_budget.bytes == 0


# It has a bound on time.
@pytest.mark.alone
async def test_one_that_takes_pieces_is_not_cut_though_it_is_behind_for_long():
    process = Process(stall_seconds=0.2)
    run = process.run()
    async with slowly(run.subscribe(), 0.05) as taken:
        await until_told(run, 2, 10 * PIECE_BYTES)
        await asyncio.sleep(0.6)
        assert not process.cut
        assert len(taken) > 5


async def test_one_that_takes_nothing_is_cut_and_everything_of_it_is_freed():
    process = Process(stall_seconds=0.1)
    run = process.run()
    reader = run.subscribe()
    run.publish("values", "x" * 4 * PIECE_BYTES)
    run.publish("values", "x" * PIECE_BYTES)
    frames = [event.frame for event in await reader.read(1) or ()]
    pieces = reader.pieces(frames)
    next(pieces)
    assert process.reader_budget.bytes > 5 * PIECE_BYTES
    await eventually(lambda: process.cut)
    assert process.cut == ["stalled"]
    assert process.reader_budget.bytes == 0
    # The generator that waits for the client keeps nothing of it.
    assert frames == []
    with pytest.raises(BrokenOff):
        next(pieces)
    with pytest.raises(Cut):
        await reader.read(1)


# It has a bound on time.
@pytest.mark.alone
async def test_one_that_is_behind_by_less_than_its_bound_stays():
    process = Process(stall_seconds=0.05)
    run = process.run()
    reader = run.subscribe()
    run.publish("values", "x" * KIB)
    await asyncio.sleep(0.15)
    assert await take(reader) == 1


async def test_a_large_event_counts_once_for_all_its_readers():
    process = Process()
    run = process.run()
    readers = [run.subscribe() for _ in range(10)]
    run.publish("values", "x" * 2 * PIECE_BYTES)
    assert process.reader_budget.bytes < 3 * PIECE_BYTES
    for reader in readers[1:]:
        run.unsubscribe(reader)
    assert process.reader_budget.bytes > 2 * PIECE_BYTES
    await take(readers[0])
    assert process.reader_budget.bytes == 0


# It has a bound on time.
@pytest.mark.alone
async def test_a_run_waits_for_its_reader_while_the_budget_is_exceeded_and_loses_nothing():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=1)
    run = process.run()
    async with slowly(run.subscribe(), 0.005) as taken:
        # All of it is many times the budget, and takes longer than any wait may.
        assert await until_told(run, 20, 3 * PIECE_BYTES) > 0.3
        assert process.reader_budget.bytes < 8 * PIECE_BYTES
    assert not process.cut
    assert sum(taken) > 50 * PIECE_BYTES


# It has a bound on time.
@pytest.mark.alone
async def test_a_stalled_reader_stops_its_run_for_the_time_of_a_stall_and_no_longer():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=0.3)
    run = process.run()
    stalled, quick = [run.subscribe() for _ in range(5)], run.subscribe()
    async with slowly(quick, 0) as taken:
        seconds = await until_told(run, 12, 2 * PIECE_BYTES)
    assert 0.2 < seconds < 1
    assert set(process.cut) <= {"stalled", "memory"}
    assert len(process.cut) == len(stalled)
    assert sum(taken) > 22 * PIECE_BYTES


# It has a bound on time.
@pytest.mark.alone
async def test_one_that_moves_holds_up_the_others_of_its_run_for_a_bounded_time():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=0.4)
    run = process.run()
    async with slowly(run.subscribe(), 0.1), slowly(run.subscribe(), 0) as taken:
        # At the pace of the slow one it would be six seconds.
        assert await until_told(run, 30, 2 * PIECE_BYTES) < 2
    assert process.cut == ["memory"]
    assert sum(taken) > 58 * PIECE_BYTES


# It has a bound on time.
@pytest.mark.alone
async def test_a_run_whose_own_readers_keep_up_never_waits_for_those_of_others():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=5)
    other, run = process.run(), process.run()
    behind, quick = other.subscribe(), run.subscribe()
    other.publish("values", "x" * 5 * PIECE_BYTES)
    assert process.reader_budget.exceeded
    async with slowly(quick, 0):
        assert await until_told(run, 50, 100) < 1
    other.unsubscribe(behind)
    assert not process.reader_budget.exceeded


# It has a bound on time.
@pytest.mark.alone
async def test_the_budget_cuts_the_one_that_stalls_first():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=1)
    stalls, moves = process.run(), process.run()
    stalled, moving = stalls.subscribe(), moves.subscribe()
    stalls.publish("values", "x" * 3 * PIECE_BYTES)
    stalls.publish("values", "x" * 100)
    moves.publish("values", "x" * 3 * PIECE_BYTES)
    await asyncio.sleep(0.3)
    moving.buffer.moved_at = monotonic()
    # Beyond twice the budget nobody waits.
    moves.publish("values", "x" * 3 * PIECE_BYTES)
    assert process.cut == ["memory"]
    with pytest.raises(Cut):
        await stalled.read(1)
    assert await take(moving) == 2


async def test_many_that_are_behind_a_little_are_cut_when_the_budget_stays_exceeded():
    process = Process(buffer_total_bytes=128 * KIB, stall_seconds=0.2)
    runs = [process.run() for _ in range(5)]
    readers = [run.subscribe() for run in runs]
    for run in runs:
        run.publish("values", "x" * 30 * KIB)
    assert not process.cut
    await eventually(lambda: process.cut)
    assert process.cut == ["memory"]
    assert not process.reader_budget.exceeded
    assert len(readers) == 5


# It has a bound on time.
@pytest.mark.alone
async def test_an_event_larger_than_the_budget_is_delivered_to_one_that_moves():
    process = Process(buffer_total_bytes=4 * PIECE_BYTES, stall_seconds=0.1)
    run = process.run()
    async with slowly(run.subscribe(), 0.02) as taken:
        await until_told(run, 1, 20 * PIECE_BYTES)
        async with asyncio.timeout(5):
            while len(taken) < 21:
                await asyncio.sleep(0.01)
    assert not process.cut


async def test_a_stream_that_was_never_sent_gives_its_bytes_back():
    process = Process()
    run = process.run()
    reader: Any = run.subscribe()
    run.publish("values", "x" * KIB)
    run.close()
    assert process.reader_budget.bytes
    del reader, run
    gc.collect()
    assert process.reader_budget.bytes == 0
