"""What may be queued is bounded, and whoever waits for room gets it in turn."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.checkpoints.queue_bound import QueueBound
from headrace.lifecycle import Tasks


async def settle() -> None:
    """Let everyone who can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("operations", "size"), [(2, 1), (100, 40)])
async def test_no_more_enter_than_fit(operations, size):
    bound = QueueBound(max_operations=operations, max_bytes=100)
    tasks = Tasks()
    for number in range(6):
        tasks.start(bound.enter(size), name=f"enter-{number}")
    await settle()
    assert (bound.operations, bound.bytes, bound.waiting) == (2, 2 * size, 4)
    for _ in range(6):
        bound.leave(size)
        await settle()
    assert (bound.operations, bound.bytes, bound.waiting, len(tasks)) == (0, 0, 0, 0)


async def test_they_enter_in_the_order_in_which_they_came():
    bound = QueueBound(max_operations=100, max_bytes=10)
    entered: list[int] = []

    async def enter(number: int, size: int) -> None:
        await bound.enter(size)
        entered.append(number)

    tasks = Tasks()
    # The small one behind the one that does not fit waits with it, or that would wait for ever.
    for number, size in enumerate([6, 6, 1]):
        tasks.start(enter(number, size), name=f"enter-{number}")
    await settle()
    assert entered == [0]
    bound.leave(6)
    await settle()
    assert entered == [0, 1, 2]


async def test_what_is_larger_than_the_bound_enters_alone():
    bound = QueueBound(max_operations=100, max_bytes=10)
    await bound.enter(1)
    tasks = Tasks()
    tasks.start(bound.enter(1000), name="oversized")
    tasks.start(bound.enter(1), name="behind")
    await settle()
    assert (bound.operations, bound.waiting) == (1, 2)
    bound.leave(1)
    await settle()
    assert (bound.operations, bound.bytes, bound.waiting) == (1, 1000, 1)
    bound.leave(1000)
    await settle()
    assert (bound.operations, bound.bytes, bound.waiting) == (1, 1, 0)


async def test_one_that_is_cancelled_lets_those_behind_it_in():
    bound = QueueBound(max_operations=100, max_bytes=10)
    await bound.enter(5)
    tasks = Tasks()
    too_large = tasks.start(bound.enter(9), name="too-large")
    fits = tasks.start(bound.enter(5), name="fits")
    await settle()
    assert not fits.done()
    too_large.cancel()
    await settle()
    assert too_large.cancelled()
    assert fits.done()
    assert (bound.operations, bound.bytes, bound.waiting) == (2, 10, 0)


async def test_one_that_is_cancelled_just_when_room_is_made_is_cancelled_and_nothing_else():
    """Both in one turn of the loop, in either order."""
    for leave_first in (True, False):
        bound = QueueBound(max_operations=1, max_bytes=10)
        await bound.enter(1)
        tasks = Tasks()
        waiting = tasks.start(bound.enter(1), name="waiting")
        await settle()
        if leave_first:
            bound.leave(1)
            waiting.cancel()
        else:
            waiting.cancel()
            bound.leave(1)
        await asyncio.wait([waiting])
        assert waiting.cancelled(), waiting.exception()
        assert (bound.operations, bound.bytes, bound.waiting) == (0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "cancel", "turn"]), st.integers(0, 20)),
        max_size=60,
    )
)
def test_whatever_happens_nothing_is_lost_and_nobody_waits_without_reason(moves):
    async def play() -> None:
        bound = QueueBound(max_operations=3, max_bytes=25)
        inside: list[int] = []
        waiting: list[asyncio.Task[None]] = []
        tasks = Tasks()

        async def enter(size: int) -> None:
            await bound.enter(size)
            inside.append(size)

        for move, amount in moves:
            if move == "enter":
                waiting.append(tasks.start(enter(amount), name="enter"))
            elif move == "leave" and inside:
                bound.leave(inside.pop(amount % len(inside)))
            elif move == "cancel" and waiting:
                waiting[amount % len(waiting)].cancel()
            elif move == "turn":
                await settle()
        await settle()
        assert (bound.operations, bound.bytes) == (len(inside), sum(inside))
        while len(tasks):
            assert inside, "everybody waits for nobody"
            bound.leave(inside.pop())
            await settle()
        for task in waiting:
            assert task.cancelled() or task.exception() is None

    asyncio.run(play())


async def test_nobody_slips_in_between_room_being_made_and_the_first_in_line_taking_it():
    bound = QueueBound(max_operations=2, max_bytes=100)
    entered: list[str] = []

    async def enter(name: str) -> None:
        await bound.enter(1)
        entered.append(name)

    for name in ("a", "b"):
        await enter(name)
    tasks = Tasks()
    tasks.start(enter("first in line"), name="waiting")
    await settle()
    bound.leave(1)
    bound.leave(1)
    await enter("just come")
    assert entered == ["a", "b", "first in line", "just come"]
