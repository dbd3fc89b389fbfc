"""Threads that know for which run they work: who gets one, who is told, what ends with the loop."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from headrace.lifecycle import run_in_thread
from headrace.thread_pool import ThreadFigures, ThreadPool, Work, in_a_thread, use_thread_pool
from tests.support.waiting import eventually


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def give(work: Work, gate: threading.Event, count: int = 1) -> list[asyncio.Future[bool]]:
    with work.entered():
        loop = asyncio.get_running_loop()
        return [loop.run_in_executor(None, gate.wait) for _ in range(count)]


async def test_a_run_has_a_thread_whatever_another_holds(gate: threading.Event) -> None:
    pool = use_thread_pool(6, places=3)
    assert pool is not None
    greedy, modest = Work(), Work()
    waits = give(greedy, gate, 20)
    await eventually(lambda: greedy.busy == 4)
    waits += give(modest, gate, 2)
    await eventually(lambda: modest.busy == 1)
    waits += give(Work(), gate)
    await eventually(lambda: pool.figures() == ThreadFigures(busy=6, most=6))
    # All are taken; what works for no run has its own.
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5) == 1
    with greedy.entered():
        assert await asyncio.wait_for(in_a_thread(lambda: 2), 5) == 2

        async def three() -> int:
            return 3

        assert await asyncio.wait_for(run_in_thread(three), 5) == 3
    gate.set()
    assert await asyncio.gather(*waits) == [True] * 23
    await eventually(lambda: pool.figures().busy == 0)


async def test_with_fewer_threads_than_places_all_have_their_turn(gate: threading.Event) -> None:
    pool = use_thread_pool(2, places=10)
    assert pool is not None
    waits = [future for _ in range(8) for future in give(Work(), gate, 2)]
    await eventually(lambda: pool.figures().busy == 2)
    gate.set()
    assert await asyncio.gather(*waits) == [True] * 16


async def test_what_no_thread_has_begun_of_a_run_that_was_cut_is_dropped(
    gate: threading.Event,
) -> None:
    use_thread_pool(2, places=2)
    work, idle = Work(), threading.Event()
    begun, *others = give(work, gate, 3)
    work.cut()
    assert work.when_idle(idle.set)
    for future in others:
        with pytest.raises(asyncio.CancelledError):
            await future
    assert work.busy == 1
    assert not idle.is_set()
    gate.set()
    await begun
    await eventually(idle.is_set)
    assert not work.when_idle(idle.clear)


async def test_a_run_of_thousands_of_jobs_is_cut_at_once(gate: threading.Event) -> None:
    pool = use_thread_pool(2, places=2)
    assert pool is not None
    work = Work()
    waits = give(work, gate, 5_000)
    began = time.perf_counter()
    work.cut()
    assert time.perf_counter() - began < 5
    assert pool.figures().busy == 1
    gate.set()
    done = await asyncio.gather(*waits, return_exceptions=True)
    assert [one for one in done if not isinstance(one, asyncio.CancelledError)] == [True]


async def test_a_run_without_threads_is_idle_and_what_waits_for_a_thread_counts(
    gate: threading.Event,
) -> None:
    use_thread_pool(1, places=1)
    assert not Work().when_idle(lambda: None)
    give(Work(), gate)
    waiting, idle = Work(), threading.Event()
    (future,) = give(waiting, gate)
    assert waiting.when_idle(idle.set)
    future.cancel()
    await eventually(idle.is_set)


async def test_what_is_raised_in_a_thread_arrives() -> None:
    use_thread_pool(1, places=1)
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)


async def test_a_thread_that_cannot_be_had_is_the_trouble_of_its_job(monkeypatch) -> None:
    pool = use_thread_pool(4, places=2)
    assert pool is not None
    work = Work()

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            await give(work, threading.Event())[0]
    assert (work.busy, pool.figures().busy) == (0, 0)
    gate = threading.Event()
    gate.set()
    assert await give(work, gate)[0]


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_executor_of_somebody_elses_stays(make: object) -> None:
    mine = ThreadPoolExecutor(1, thread_name_prefix="mine")

    async def ours() -> bool:
        # The one that a loop makes by itself is nobody's.
        await asyncio.to_thread(int)
        return use_thread_pool(4, places=2) is not None

    async def theirs() -> str:
        asyncio.get_running_loop().set_default_executor(mine)
        assert use_thread_pool(4, places=2) is None
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    with asyncio.Runner(loop_factory=make) as runner:  # type: ignore[arg-type]
        assert runner.run(ours())
    with asyncio.Runner(loop_factory=make) as runner:  # type: ignore[arg-type]
        assert runner.run(theirs()).startswith("mine")


def test_the_end_waits_for_work_but_not_for_what_was_cut() -> None:
    pool = ThreadPool(4, places=2)
    gate, cut = threading.Event(), Work()
    with cut.entered():
        deaf = pool.submit(gate.wait)
    cut.cut()
    own = pool.submit(threading.Event().wait, 0.2)
    pool.shutdown()
    assert own.done()
    assert not deaf.done()
    with pytest.raises(RuntimeError):
        pool.submit(int)
    gate.set()


SCRIPT = """
import asyncio, time
from headrace.thread_pool import Work, use_thread_pool

async def main():
    use_thread_pool(4, places=2)
    work = Work()
    with work.entered():
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    await asyncio.sleep(0.1)
    work.cut()

asyncio.run(main())
"""


def test_a_thread_that_never_returns_does_not_hold_up_the_end_of_a_process() -> None:
    assert subprocess.run([sys.executable, "-c", SCRIPT], timeout=30, check=False).returncode == 0
