"""Lists of rows within the bounds of answers. Small pages are read at once; larger pages first take
memory.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from headrace.checkpoints.answer_memory import Reading
from headrace.db.row_sizes import RowPage
from headrace.errors import AnswerTooLarge

Row = TypeVar("Row")

#: A page of at most this many bytes is not counted.
_FREE_BYTES = 1024 * 1024


async def rows_within(
    reading: Reading, read: Callable[[int], Awaitable[RowPage[Row]]]
) -> RowPage[Row]:
    """The first rows of the page, as many as one answer may hold.

    ``reading`` holds the memory for them.

    :param read: reads the page up to so many bytes, and at least one row.
    :raises AnswersFull: there is no memory for the page now.
    """
    settings = reading.memory.settings
    page = await read(min(_FREE_BYTES, settings.max_bytes))
    if page.is_short and settings.max_bytes > _FREE_BYTES:
        await reading.take(min(page.bytes, settings.max_bytes))
        page = await read(settings.max_bytes)
    if page.is_short:
        reading.memory.count("shortened")
    return page


def next_page(page: RowPage[Row], offset: int) -> dict[str, str]:
    """The header with the offset of the next page, if the page was cut for its bytes; else none."""
    return {"X-Pagination-Next": str(offset + len(page.rows))} if page.is_short else {}


def list_too_large(
    count: int, size_bytes: int, reading: Reading, *, what: str, instead: str
) -> AnswerTooLarge:
    reading.memory.count("too_large")
    return AnswerTooLarge(
        f"These {count} {what} hold {size_bytes} bytes, and a list has at most"
        f" {reading.memory.settings.max_bytes} (setting answers.max_bytes). {instead}"
    )
