"""The checkpoint engine on a test's own database, opened and closed with the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.checkpoints.saver import Observe, Saver
from headrace.db.pool import SharedPool

#: What is promised of savers holds for all of them.
ENGINES = ("upstream",)


@asynccontextmanager
async def open_saver(
    pool: SharedPool,
    *,
    engine: str = "upstream",
    observe: Observe = lambda operation, seconds: None,
) -> AsyncIterator[Saver]:
    """A saver of one of the engines."""
    assert engine in ENGINES
    yield Saver(pool, observe=observe)
