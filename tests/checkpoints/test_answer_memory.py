"""Memory for answers: shared among callers, and never lost."""

import asyncio
import gc
from contextlib import contextmanager

import pytest

from headrace.checkpoints.answer_memory import AnswerMemory, StateIsLarge
from headrace.errors import AnswerTooLarge
from headrace.request_settings import AnswerSettings
from headrace.shares import current_caller
from headrace.unavailable_errors import AnswersFull
from tests.support.waiting import eventually

MB = 1024 * 1024


def make(share: float = 1.0, **settings: float) -> tuple[AnswerMemory, list[str]]:
    counted: list[str] = []
    given = {"memory_bytes": 3 * MB, "max_state_bytes": 5 * MB, "wait_seconds": 5.0, **settings}
    return AnswerMemory(
        AnswerSettings.model_validate(given), share=share, count=counted.append
    ), counted


async def test_whoever_finds_no_room_waits_for_its_turn():
    memory, _ = make()
    first = memory.reading()
    await first.admit(MB)
    told: list[str] = []

    async def read(name: str, size: int) -> None:
        with memory.reading() as reading:
            await reading.admit(size)
            told.append(name)

    waiting = [asyncio.create_task(read("large", MB)), asyncio.create_task(read("next", MB // 2))]
    await eventually(lambda: memory.figures().waiting == 2)
    first.release()
    await asyncio.gather(*waiting)
    assert told == ["large", "next"]
    assert (memory.figures().bytes, memory.figures().waiting) == (0, 0)


async def test_what_is_larger_than_all_of_it_is_read_alone():
    memory, _ = make()
    alone = memory.reading()
    await alone.admit(4 * MB)
    assert alone.held == memory.settings.memory_bytes
    small = memory.reading()
    # Does not wait.
    await small.admit(60 * 1024)
    assert small.held == 0
    # What it holds itself it need not wait for.
    await alone.admit(MB)
    alone.release()
    assert memory.figures().bytes == 0


async def test_no_room_in_time_is_a_refusal_that_is_counted():
    memory, counted = make(wait_seconds=0.05)
    first = memory.reading()
    await first.admit(MB)
    with pytest.raises(AnswersFull):
        await memory.reading().admit(MB)
    assert counted == ["no_room"]
    assert memory.figures().waiting == 0
    first.release()
    assert memory.figures().bytes == 0


async def test_a_state_that_is_too_large_takes_nothing():
    memory, counted = make()
    reading = memory.reading()
    with pytest.raises(AnswerTooLarge):
        await reading.admit(6 * MB)
    with pytest.raises(StateIsLarge):
        await memory.reading(only_small=True).admit(MB)
    assert (counted, memory.figures().bytes) == (["too_large"], 0)


@pytest.mark.parametrize("granted_first", [False, True])
async def test_one_that_leaves_while_it_waits_keeps_nothing(granted_first):
    memory, _ = make()
    first, second = memory.reading(), memory.reading()
    await first.admit(MB)
    waiting = asyncio.create_task(second.admit(MB))
    await eventually(lambda: memory.figures().waiting == 1)
    if granted_first:
        first.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.release()
    assert (memory.figures().bytes, memory.figures().waiting) == (0, 0)


async def test_an_answer_that_is_never_sent_gives_its_memory_back():
    memory, _ = make()
    reading = memory.reading()
    await reading.admit(MB)
    del reading
    gc.collect()
    assert memory.figures().bytes == 0


@contextmanager
def working_for(caller: str):
    token = current_caller.set(caller)
    try:
        yield
    finally:
        current_caller.reset(token)


async def test_slow_readers_of_one_caller_leave_some_to_others():
    memory, counted = make(share=0.75, memory_bytes=8 * MB, wait_seconds=1)
    with working_for("slow"):
        # All that one may have, for a state that would take more.
        large, more = memory.reading(), memory.reading()
        await large.admit(4 * MB)
    assert large.held == 6 * MB
    with pytest.raises(AnswersFull):
        await more.admit(MB // 8)
    told: list[str] = []

    async def wait(caller: str, size: int) -> None:
        with working_for(caller), memory.reading() as reading:
            await reading.admit(size)
            told.append(caller)

    waiting = [asyncio.create_task(wait("slow", MB // 8)) for _ in range(3)]
    await eventually(lambda: memory.figures().waiting == 3)
    # Neither its bytes nor its queue are in the way of another.
    await wait("other", MB // 2)
    assert told == ["other"]
    large.release()
    await asyncio.gather(*waiting)
    assert counted == ["no_room"]
    assert (memory.figures().bytes, memory.figures().waiting) == (0, 0)


async def test_who_holds_much_waits_while_who_holds_nothing_is_served():
    memory, _ = make(share=0.5, memory_bytes=8 * MB)
    told: list[str] = []

    async def wait(caller: str) -> None:
        with working_for(caller), memory.reading() as reading:
            await reading.admit(MB // 2)
            told.append(caller)

    held = {}
    for caller, size in (("a", MB), ("b", MB // 2), ("c", MB // 2)):
        with working_for(caller):
            held[caller] = memory.reading()
            await held[caller].admit(size)
    waiting = [asyncio.create_task(wait(caller)) for caller in ("a", "new")]
    await eventually(lambda: memory.figures().waiting == 2)
    held["c"].release()
    await eventually(lambda: told == ["new"])
    assert memory.figures().waiting == 1
    for caller in ("a", "b"):
        held[caller].release()
    await asyncio.gather(*waiting)
    assert told == ["new", "a"]
    assert memory.figures().bytes == 0
