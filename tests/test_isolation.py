"""What one of many spoils fails that one alone."""

from collections.abc import Sequence

import pytest

from headrace.isolation import for_each_sound


class Work:
    """Does all that is not poison, unless some of it is."""

    def __init__(self, *poison: int) -> None:
        self._poison = poison
        self.done: set[int] = set()
        self.calls = 0

    async def __call__(self, items: Sequence[int]) -> None:
        self.calls += 1
        for item in items:
            if item in self._poison:
                raise OverflowError(item)
        self.done |= set(items)


@pytest.mark.parametrize("poison", [(0,), (999,), (3, 4), (0, 500, 999)])
async def test_the_others_are_done_in_few_calls(poison: tuple[int, ...]) -> None:
    work = Work(*poison)
    failed = await for_each_sound(range(1000), work)
    assert [item for item, _ in failed] == list(poison)
    assert all(isinstance(error, OverflowError) for _, error in failed)
    assert work.done == set(range(1000)) - set(poison)
    assert work.calls < 25 * len(poison)


async def test_what_is_sound_takes_one_call_and_one_poison_fails_alone() -> None:
    sound = Work()
    assert await for_each_sound(range(1000), sound) == []
    assert sound.calls == 1
    ((item, _),) = await for_each_sound([7], Work(7))
    assert item == 7
    assert await for_each_sound([], Work()) == []


async def test_what_is_nobodys_is_raised_at_once() -> None:
    async def away(_items: Sequence[int]) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await for_each_sound(range(1000), away, passing=(ConnectionError,))


async def test_where_nothing_works_for_anybody_the_error_is_raised_soon() -> None:
    work = Work(*range(1000))
    with pytest.raises(OverflowError):
        await for_each_sound(range(1000), work)
    assert work.calls < 50
