"""Signals wake what waits once, in time or not; kept tasks start again."""

import asyncio
import gc
from contextvars import ContextVar
from weakref import ReferenceType, ref

import pytest
import structlog

from headrace import lifecycle
from headrace.lifecycle import Restarts, Signal, Supervision, Tasks
from headrace.unavailable_errors import DatabaseUnavailable
from tests.support.waiting import eventually


async def test_a_signal_that_is_set_wakes_all_who_wait_and_later_ones_at_once():
    signal, tasks = Signal(), Tasks()
    waiting = [tasks.start(signal.wait(), name="a"), tasks.start(signal.wait(5), name="b")]
    await asyncio.sleep(0)
    assert not signal.is_set()
    signal.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await signal.wait(0)


async def test_a_wait_that_is_over_in_time_or_cancelled_leaves_the_signal_as_it_was():
    signal, tasks = Signal(), Tasks()
    assert not await signal.wait(0.001)
    cancelled = tasks.start(signal.wait(), name="cancelled")
    other = tasks.start(signal.wait(5), name="other")
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
    assert not signal.is_set()
    signal.set()
    assert await other


async def test_a_cleared_signal_is_waited_for_again():
    signal = Signal()
    signal.set()
    signal.clear()
    assert not await signal.wait(0.001)


async def test_work_is_repeated_after_rounds_without_a_database():
    rounds: list[float] = []
    loop, tasks = asyncio.get_running_loop(), Tasks()

    async def work() -> None:
        rounds.append(loop.time())
        if len(rounds) < 3:
            raise DatabaseUnavailable

    began = loop.time()
    with structlog.testing.capture_logs() as logs:
        tasks.repeat(
            work,
            every_seconds=0.02,
            name="work",
            log=structlog.stdlib.get_logger(),
            skipped_event="work_skipped",
        )
        await eventually(lambda: len(rounds) >= 4)
        await tasks.stop()
    assert rounds[0] - began >= 0.02
    skipped = {"event": "work_skipped", "cause": "database_unavailable", "log_level": "warning"}
    assert logs == [skipped, skipped]


QUICK = Restarts(first_pause_seconds=0.001, longest_pause_seconds=0.01, most=3, settled_seconds=30)


@pytest.mark.parametrize("end", ["raises", "returns", "is cancelled"])
async def test_a_kept_task_that_ends_is_told_of_and_started_again(end: str):
    faults: list[tuple[str, BaseException | None]] = []
    tasks = Tasks(Supervision(lambda name, error: faults.append((name, error)), restarts=QUICK))
    began, lives = 0, asyncio.Event()

    async def loop() -> None:
        nonlocal began
        began += 1
        if began == 2:
            lives.set()
            await asyncio.Event().wait()
        if end == "raises":
            raise ZeroDivisionError
        if end == "is cancelled":
            # As a graph does that cancels whatever it finds.
            next(one for one in asyncio.all_tasks() if one.get_name() == "loop").cancel()
            await asyncio.Event().wait()

    tasks.keep(loop, name="loop")
    await asyncio.wait_for(lives.wait(), 5)
    assert [name for name, _ in faults] == ["loop"]
    assert isinstance(faults[0][1], ZeroDivisionError) == (end == "raises")
    await tasks.stop()
    assert (began, len(tasks)) == (2, 0)


async def test_a_task_that_is_to_start_again_does_not_after_the_stop():
    tasks = Tasks(Supervision(restarts=Restarts(first_pause_seconds=0.01)))
    began = 0

    async def loop() -> None:
        nonlocal began
        began += 1

    tasks.keep(loop, name="loop")
    await tasks.join()
    await tasks.stop()
    await asyncio.sleep(0.05)
    assert began == 1


@pytest.mark.parametrize("vital", [True, False])
async def test_a_vital_task_that_ends_again_and_again_is_a_reason_to_replace_the_process(
    vital: bool,
):
    supervision = Supervision(restarts=QUICK)
    tasks = Tasks(supervision)
    began, enough = 0, asyncio.Event()

    async def loop() -> None:
        nonlocal began
        began += 1
        if began > 5:
            enough.set()
        raise ZeroDivisionError

    assert supervision.problem is None
    tasks.keep(loop, name="loop", vital=vital)
    await asyncio.wait_for(enough.wait(), 5)
    assert supervision.problem == ("background tasks end again and again: loop" if vital else None)
    await tasks.stop()


def test_pauses_grow_to_the_longest_and_begin_anew_after_a_long_life():
    restarts = Restarts(first_pause_seconds=0.1, longest_pause_seconds=1.0, settled_seconds=30)
    supervision = Supervision(restarts=restarts)

    def pause(lived_seconds: float) -> float:
        return supervision.ended("loop", None, lived_seconds=lived_seconds, vital=True)

    assert [pause(0.0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pause(31.0) == 0.1
    assert all(restarts.pause_seconds(ended) == 1.0 for ended in (100, 10_000))


class Large:
    """A graph's state, which its context holds."""


_STATE: ContextVar[Large] = ContextVar("state")


async def test_a_wait_that_is_over_keeps_nothing_of_who_waited():
    """A cancelled timer stands in the loop until its time, with the context it was made in."""
    signal = Signal()

    async def graph() -> ReferenceType[Large]:
        state = Large()
        _STATE.set(state)
        asyncio.get_running_loop().call_soon(signal.set)
        assert await signal.wait(60)
        return ref(state)

    state = await asyncio.create_task(graph())

    def gone() -> bool:
        gc.collect()
        return state() is None

    await eventually(gone)


async def deaf_once(begun: asyncio.Event) -> None:
    """As ``asyncio.wait_for`` before Python 3.12, if its answer and a cancellation come at once."""
    begun.set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return


async def test_repeated_work_that_loses_its_cancellation_ends_with_the_stop():
    tasks, begun = Tasks(Supervision()), asyncio.Event()
    tasks.repeat(
        lambda: deaf_once(begun),
        every_seconds=60,
        name="deaf",
        log=structlog.stdlib.get_logger(),
        skipped_event="skipped",
        at_once=True,
    )
    await begun.wait()
    async with asyncio.timeout(2):
        await tasks.stop()


async def test_a_task_that_goes_on_after_its_cancellation_is_cancelled_again(monkeypatch):
    monkeypatch.setattr(lifecycle, "_CANCELLED_AGAIN_SECONDS", 0.05)
    tasks, begun = Tasks(Supervision()), asyncio.Event()

    async def for_ever() -> None:
        while True:
            await deaf_once(begun)
            await asyncio.sleep(60)

    tasks.keep(for_ever, name="deaf")
    await begun.wait()
    async with asyncio.timeout(2):
        await tasks.stop()
