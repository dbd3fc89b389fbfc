"""Signals: what waits is woken once, in time or not."""

import asyncio

from headrace.lifecycle import Signal, Tasks


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
