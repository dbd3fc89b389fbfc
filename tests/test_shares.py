"""Places that callers share: what one may take, who is next, and that none is lost."""

import asyncio
import random

import pytest

from headrace.shares import Gate, Places


def taken_by(places: Places, caller: str) -> int:
    """Takes all that the caller may."""
    while places.take(caller):
        pass
    return places.held_by(caller)


def test_one_caller_after_another_gets_a_share_of_what_is_left():
    places = Places(100, share=0.75)
    assert [taken_by(places, name) for name in "abc"] == [75, 18, 5]
    assert taken_by(places, "d") == 1


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
def test_without_shares_one_caller_may_take_all(total):
    places = Places(total)
    assert taken_by(places, "a") == total
    assert not places.take("b")


@pytest.mark.parametrize("total", [2, 3, 4, 10, 64])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.99])
def test_whoever_comes_second_finds_a_place(total, share):
    places = Places(total, share)
    assert taken_by(places, "a") < total
    assert places.take("b")


def test_the_only_place_is_anybodys():
    places = Places(1, share=0.5)
    assert places.take("a")
    assert not places.take("b")
    places.release("a")
    assert places.take("b")


def test_the_allowance_is_what_can_be_taken():
    places = Places(20, share=0.6)
    for caller in "abab":
        allowance = places.allowance(caller)
        before = places.held_by(caller)
        assert taken_by(places, caller) == before + allowance
        places.release(caller)


def test_what_is_held_anyhow_counts():
    places = Places(2, share=0.5)
    for _ in range(3):
        places.hold("a")
    assert places.taken == 3
    assert places.free == 0
    assert not places.take("b")


def test_a_place_that_nobody_holds_cannot_be_given_back():
    places = Places(2)
    with pytest.raises(ValueError, match="no place"):
        places.release("a")
    assert places.free == 2


async def test_whoever_waits_gets_the_next_place():
    gate = Gate(Places(1), timeout_seconds=5)
    await gate.take("a")
    second = asyncio.create_task(gate.take("a"))
    await asyncio.sleep(0)
    assert gate.waiting == 1
    gate.release("a")
    await second
    assert gate.places.taken == 1
    assert gate.waiting == 0


async def test_who_holds_least_comes_first_however_long_others_wait():
    gate = Gate(Places(4, share=0.75), timeout_seconds=5)
    for _ in range(3):
        await gate.take("greedy")
    order: list[str] = []

    async def one(caller: str) -> None:
        async with gate.place(caller):
            order.append(caller)

    waiting = [asyncio.create_task(one("greedy")) for _ in range(20)]
    await asyncio.sleep(0)
    late = asyncio.create_task(one("late"))
    await late
    assert order == ["late"]
    for _ in range(3):
        gate.release("greedy")
    await asyncio.gather(*waiting)
    assert gate.places.taken == 0


async def test_nobody_waits_longer_than_the_bound():
    gate = Gate(Places(1), timeout_seconds=0.05)
    await gate.take("a")
    with pytest.raises(TimeoutError):
        await gate.take("a")
    assert gate.waiting == 0
    gate.release("a")
    await gate.take("b")


async def test_no_place_is_lost_whoever_gives_up_when():
    chance = random.Random(7)
    gate = Gate(Places(5, share=0.75), timeout_seconds=5)

    async def one(caller: str) -> None:
        async with gate.place(caller):
            await asyncio.sleep(chance.random() / 500)

    tasks = []
    for _ in range(2000):
        tasks.append(asyncio.create_task(one(chance.choice("abcd"))))
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.places.taken == 0
    assert gate.places.callers() == {}
    assert gate.waiting == 0


@pytest.mark.parametrize("share", [0.75, 1.0])
def test_nobody_holds_more_than_the_most(share):
    places = Places(100, share, most=3)
    assert places.shared
    assert taken_by(places, "a") == taken_by(places.copy(), "b") == 3
    places.release("a")
    assert places.take("a")
    # Running work is counted, not refused.
    places.hold("a")
    assert places.allowance("a") == 0
    places.release("a")
    assert not places.take("a")
