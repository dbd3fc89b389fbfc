"""Batches of work in which a bad item must not fail the others.

The server sends one query for many runs or callers. A value that cannot be sent, or a row that
cannot be read, makes the whole query fail. Then each half of the batch is tried, until the bad item
is alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: If so many single items have failed and none has succeeded, the items are not the cause.
_MAX_FAILED = 8


async def for_each_sound(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    *,
    passing: tuple[type[Exception], ...] = (),
) -> list[tuple[T, Exception]]:
    """Do ``work`` for all ``items`` for which it succeeds; returns the others with their errors.

    ``work`` may be called again for items of a batch that has failed. One bad item in a thousand
    costs about twenty calls. If the first eight single items fail and none has succeeded, the last
    error is raised.

    :param passing: errors that no item causes: they are raised at once.
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
            if not done and len(failed) >= _MAX_FAILED:
                raise
    return failed
