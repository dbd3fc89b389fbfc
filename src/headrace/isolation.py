"""Work for many at once, of whom one may spoil it: that one fails, and nobody else.

Rounds of the server ask one question for all callers together. A value that cannot be sent, or a
row that cannot be read, fails the whole question; halves of it are asked until what fails stands
alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: When so many have failed alone and none was done, it is not theirs.
_NOT_THEIRS = 8


async def for_each_sound(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    *,
    passing: tuple[type[Exception], ...] = (),
) -> list[tuple[T, Exception]]:
    """Do ``work`` for all ``items`` that it can be done for; the others, each with its error.

    ``work`` may be called again for items of a part for which it has failed. One item in a thousand
    that fails costs about twenty calls. Where nothing can be done for anybody, the error is raised.

    :param passing: errors that are nobody's: they end it at once.
    """
    failed: list[tuple[T, Exception]] = []
    parts, done = [items], False
    while parts:
        part = parts.pop()
        try:
            await work(part)
            done = True
        except passing:
            raise
        except Exception as error:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            failed.append((part[0], error))
            if not done and len(failed) >= _NOT_THEIRS:
                raise
    return failed
