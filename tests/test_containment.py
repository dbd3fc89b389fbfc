"""Exits of user code stay in the task that raised them, and tasks behave as asyncio's own do."""

import asyncio
import gc
from contextvars import copy_context

import anyio
import pytest

from headrace.containment import contain, containing_tasks
from headrace.user_exit import UserExit


async def raising(error: BaseException, *, turns: int = 0) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error


def task_of(work):
    """A task that is created as by a run."""

    def create():
        contain()
        return asyncio.get_running_loop().create_task(work)

    return copy_context().run(create)


@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_an_exit_becomes_an_ordinary_error_of_its_task(error, turns):
    with containing_tasks():
        task = task_of(raising(error, turns=turns))
        with pytest.raises(UserExit) as told:
            await task
    assert told.value.original is error


async def test_other_errors_results_and_cancellations_stay_as_they_are():
    async def result() -> int:
        await asyncio.sleep(0)
        return 7

    with containing_tasks():
        assert await task_of(result()) == 7
        with pytest.raises(ValueError, match="own"):
            await task_of(raising(ValueError("own")))
        waiting = task_of(asyncio.sleep(60))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()


async def test_a_task_that_is_cancelled_before_its_first_step_never_runs_and_warns_nobody(recwarn):
    begun = []

    async def work() -> None:
        begun.append(1)

    with containing_tasks():
        task = task_of(work())
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    del task
    gc.collect()
    assert begun == []
    assert [str(one.message) for one in recwarn] == []


async def test_a_task_group_of_anyio_lets_its_tasks_begin_before_it_cancels_them():
    """anyio looks at the coroutine of a task to see whether it has begun."""
    begun = []

    async def work() -> None:
        begun.append(1)
        await anyio.sleep(60)

    async def group() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            tasks.cancel_scope.cancel()

    with containing_tasks():
        await task_of(group())
    assert begun == [1]


async def test_python_may_close_a_contained_coroutine_at_any_step():
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    with containing_tasks():
        unbegun, begun = task_of(work()), task_of(work())
        unbegun.get_coro().close()
        await asyncio.sleep(0)
        # As when the loop has gone while the task waits.
        begun.get_coro().close()
        assert ended == [1]
        for task in (unbegun, begun):
            task.cancel()
        await asyncio.wait({unbegun, begun})


async def test_a_task_is_named_after_the_coroutine_inside():
    with containing_tasks():
        task = task_of(raising(ValueError("own")))
        assert "raising" in repr(task)
        await asyncio.wait({task})
        assert isinstance(task.exception(), ValueError)


async def test_anyio_lets_a_task_begin_before_it_cancels_it(recwarn):
    told = []

    async def child() -> None:
        told.append("begun")
        try:
            await anyio.sleep(60)
        finally:
            told.append("ended")

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.cancel_scope.cancel()

    with containing_tasks():
        await task_of(work())
    gc.collect()
    assert told == ["begun", "ended"]
    assert [str(one.message) for one in recwarn] == []
