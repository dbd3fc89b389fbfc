"""Rows of threads that were deleted while a flush was still on its way are found and deleted.

A flush whose client gave it up may still be carried out, long after its run has ended as ``error``
and its thread was deleted: its rows would belong to nobody, for ever. Large flushes hold their
threads (``hold_threads`` of flush.sql): a deletion waits for them. For all others the process
remembers which threads had a flush without an answer, and looks at them later. Only these: rows
under an id without a thread are otherwise those of graphs that were run past the API, or of a
database that is still to be adopted.
"""

from collections.abc import Iterable
from time import monotonic

import structlog

from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.db.statements import statement
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.writer")

#: What was given up may still be carried out for so long after it: there are locks to wait for.
_AFTER_SECONDS = 120.0
#: Not more threads are remembered; whoever writes so many without an answer has other trouble.
_MAX_THREADS = 10_000
_AT_ONCE = 200

_DELETES = tuple(
    statement(f"""
DELETE FROM {table} WHERE thread_id = ANY (%(ids)s::text[])
AND NOT EXISTS (SELECT 1 FROM threads WHERE threads.thread_id = {table}.thread_id)
""")  # noqa: S608 - of constants
    for table in ("checkpoint_writes", "checkpoint_blobs", "checkpoints")
)


class Strays:
    """Threads of runs that had a flush without an answer, by when they are to be looked at."""

    def __init__(self, *, after_seconds: float = _AFTER_SECONDS) -> None:
        self.after_seconds = after_seconds
        self._due_at: dict[str, float] = {}

    def remember(self, thread_ids: Iterable[str]) -> None:
        """A flush for these was given up; it may still be carried out."""
        for thread_id in thread_ids:
            if thread_id in self._due_at or len(self._due_at) < _MAX_THREADS:
                self._due_at[thread_id] = monotonic() + self.after_seconds

    def due(self) -> list[str]:
        now = monotonic()
        return [thread_id for thread_id, at in self._due_at.items() if at <= now][:_AT_ONCE]

    def forget(self, thread_ids: Iterable[str]) -> None:
        for thread_id in thread_ids:
            self._due_at.pop(thread_id, None)


class StraySweeper:
    """One per process, for what its own writer has given up."""

    def __init__(self, pool: SharedPool, strays: Strays, *, interval_seconds: float = 30.0) -> None:
        self._pool = pool
        self._strays = strays
        self._interval_seconds = interval_seconds

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self.sweep,
            every_seconds=self._interval_seconds,
            name="stray-sweeper",
            log=_log,
            skipped_event="stray_rows_left",
        )

    async def sweep(self) -> int:
        """One round: delete the rows of remembered threads that are gone; tells how many rows.

        :raises Unavailable: the database could not be reached; they are looked at again.
        """
        deleted = 0
        while due := self._strays.due():
            with translated_faults():
                async with self._pool.connection() as connection, connection.transaction():
                    for delete in _DELETES:
                        cursor = await connection.execute(delete, {"ids": due}, prepare=False)
                        deleted += cursor.rowcount
            self._strays.forget(due)
        if deleted:
            _log.warning("stray_rows_deleted", rows=deleted)
        return deleted
