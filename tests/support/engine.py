"""The checkpoint engine on a test's own database, opened and closed with the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.flush import OnFlush
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.saver import GroupCommitSaver
from headrace.checkpoints.timing import Observe
from headrace.checkpoints.upstream_saver import UpstreamSaver
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool

#: The values of ``checkpointer.engine``; what is promised of savers holds for both.
ENGINES = ("group_commit", "upstream")


@asynccontextmanager
async def open_writer(
    pool: SharedPool, *, on_flush: OnFlush | None = None, **changes: object
) -> AsyncIterator[Writer]:
    """A writer with ``changes`` to the settings' defaults; drained at the end."""
    writer = Writer(pool, CheckpointerSettings.model_validate(changes), on_flush=on_flush)
    try:
        yield writer
    finally:
        await writer.stop()


@asynccontextmanager
async def open_saver(
    pool: SharedPool,
    *,
    engine: str = "group_commit",
    observe: Observe = lambda operation, seconds: None,
    **changes: object,
) -> AsyncIterator[RunSaver]:
    """A saver of one of the engines."""
    writer = Writer(pool, CheckpointerSettings.model_validate(changes))
    try:
        kind = UpstreamSaver if engine == "upstream" else GroupCommitSaver
        saver = kind(pool, writer, observe=observe)
        yield saver
        await saver.stop()
    finally:
        await writer.stop()
