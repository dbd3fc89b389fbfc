"""The events of a run here: in order, to the end, bounded; stored first where that is promised."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.errors import LeaseLost
from headrace.event_settings import EventSettings
from headrace.events.channel import Channel
from headrace.events.event import Event, end_event
from headrace.events.reader import Moved
from headrace.events.reader_buffers import BufferBudget, Cut
from tests.support.waiting import eventually

END = end_event("r", "success", None)


def channel(settings: dict[str, float] | None = None, **options: Any) -> Channel:
    return Channel(EventSettings.model_validate(settings or {}), **options)


class Shelf:
    """Stores when it is let; what is stored is in ``events``."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.lost = False

    async def store(self, events: Sequence[Event]) -> None:
        await self.open.wait()
        if self.lost:
            raise LeaseLost
        self.events += events
        self.batches.append(len(events))

    async def read(self, after: int, before: int) -> Sequence[Event]:
        return [event for event in self.events if after < event.event_id < before][:2]


async def data(reader, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(5):
        while len(got) < count:
            got += [event.data for event in await reader.read(5)]
    return got


async def test_a_reader_gets_everything_since_it_subscribed_then_the_end():
    run = channel()
    run.publish("x", "nobody hears it")
    reader = run.subscribe()
    run.publish("x", 1)
    run.publish("x", 2)
    run.close(END)
    assert await reader.read(1) is not None
    assert await reader.read(1) is None


async def test_a_late_reader_gets_what_the_ring_holds_first():
    run = channel({"ring_events": 2}, kept=True)
    for number in range(4):
        run.publish("x", number)
    reader = run.subscribe()
    run.publish("x", 4)
    assert await data(reader, 3) == [b"2", b"3", b"4"]


async def test_the_ring_is_bounded_in_bytes_too():
    run = channel({"ring_bytes": 1024}, kept=True)
    for _ in range(20):
        run.publish("x", "y" * 200)
    assert len(await data(run.subscribe(), 1)) < 6


async def test_nothing_is_encoded_for_a_run_that_nobody_follows():
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("encoded")

    channel().publish("x", Costly())


async def test_what_the_ring_cannot_hold_is_not_encoded_for_it():
    """A state of 300 MB would be there three times."""

    class Costly:
        def __str__(self) -> str:
            raise AssertionError("encoded")

    run = channel({"ring_bytes": 1024}, kept=True)
    run.publish("values", {"small": 1})
    run.publish("values", {"large": "y" * 2000, "costly": Costly()})
    run.publish("values", {"small": 2})
    reader = run.subscribe()
    assert await data(reader, 1) == [b'{"small":2}']
    # Whoever reads gets all.
    run.publish("values", {"large": "y" * 2000})
    assert await data(reader, 1) == [b'{"large":"%b"}' % (b"y" * 2000)]


async def test_a_quiet_channel_says_so_after_the_timeout():
    assert await channel().subscribe().read(0.01) == ()


async def test_a_waiting_reader_wakes_up():
    run = channel()
    reader = run.subscribe()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(data(reader, 1))
        await asyncio.sleep(0)
        run.publish("x", "now")
    assert reading.result() == [b'"now"']


async def test_a_stalled_reader_is_cut_and_others_are_not():
    settings = EventSettings(buffer_events=16, stall_seconds=0.05)
    cut: list[str] = []
    run = Channel(settings, reader_budget=BufferBudget(settings, on_cut=cut.append))
    slow, quick = run.subscribe(), run.subscribe()
    for number in range(17):
        run.publish("x", number)
        assert await data(quick, 1) == [str(number).encode()]
    await eventually(lambda: cut)
    with pytest.raises(Cut):
        await slow.read(1)
    run.publish("x", "after")
    assert await data(quick, 1) == [b'"after"']


async def test_who_comes_after_the_end_gets_the_end():
    run = channel()
    run.close(END)
    assert await run.subscribe().read(1) is None


async def test_who_follows_a_run_that_moves_is_told_after_the_last_event():
    run = channel()
    reader = run.subscribe()
    run.publish("x", 1)
    run.move()
    assert await data(reader, 1) == [b"1"]
    with pytest.raises(Moved):
        await reader.read(1)


async def test_events_of_a_resumable_run_are_stored_before_anybody_gets_them():
    shelf = Shelf()
    run = channel(resumable=True, store=shelf.store)
    reader = run.subscribe()
    for number in range(3):
        run.publish("x", number)
    assert await reader.read(0.05) == ()
    shelf.open.set()
    assert await data(reader, 3) == [b"0", b"1", b"2"]
    assert [event.event_id for event in shelf.events] == [1, 2, 3]


async def test_what_comes_during_a_commit_goes_as_one_batch():
    shelf = Shelf()
    run = channel(resumable=True, store=shelf.store)
    run.publish("x", 0)
    await asyncio.sleep(0)
    for number in range(1, 6):
        run.publish("x", number)
    shelf.open.set()
    await run.settle()
    assert shelf.batches == [1, 5]


@pytest.mark.parametrize("after", [-1, 0, 3, 7, 10])
async def test_a_rejoin_reads_what_the_ring_lost_from_the_store(after):
    shelf = Shelf()
    shelf.open.set()
    run = channel({"ring_events": 3}, resumable=True, store=shelf.store, read_stored=shelf.read)
    for number in range(1, 11):
        run.publish("x", number)
    await run.settle()
    reader = run.subscribe(after)
    run.publish("x", 11)
    wanted = range(max(after, 0) + 1, 12)
    assert await data(reader, len(wanted)) == [str(number).encode() for number in wanted]


async def test_a_run_that_waits_for_the_store_is_held_up_at_a_bound():
    shelf = Shelf()
    run = channel({"buffer_events": 16, "batch_events": 4}, resumable=True, store=shelf.store)
    waiting = None
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(40):
            run.publish("x", number)
        await asyncio.sleep(0)
        waiting = group.create_task(run.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        shelf.open.set()


async def test_a_watched_run_stores_its_ring_and_then_everything_until_nobody_watches():
    shelf = Shelf()
    shelf.open.set()
    run = channel(kept=True, store=shelf.store)
    run.publish("x", 1)
    run.watch(True)
    run.publish("x", 2)
    await run.settle()
    run.watch(False)
    run.publish("x", 3)
    run.watch(True)
    await run.settle()
    assert [event.event_id for event in shelf.events] == [1, 2, 3]


async def test_a_run_that_was_taken_over_stores_nothing_more_and_is_told():
    shelf, told = Shelf(), []
    shelf.lost = True
    shelf.open.set()
    run = channel(resumable=True, store=shelf.store, on_lost=lambda: told.append(True))
    run.publish("x", 1)
    await eventually(lambda: told)
    run.publish("x", 2)
    await run.settle()
    assert shelf.events == []


async def test_ids_go_on_after_those_of_the_attempt_before():
    shelf = Shelf()
    shelf.open.set()
    run = channel(resumable=True, store=shelf.store)
    run.continue_after(41)
    run.publish("x", 1)
    await run.settle()
    assert [event.event_id for event in shelf.events] == [42]
