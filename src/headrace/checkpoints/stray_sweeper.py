"""Deletes rows of threads that were deleted while a flush was still under way.

Postgres may still carry out a flush that the writer gave up: long after the run ended as ``error``
and the thread was deleted. Then the rows of the flush belong to no thread, for ever. A flush of
large values holds its threads (``held_thread_ids`` of db/flush_2.sql), so a deletion waits for it.
After any other flush without an answer, the process remembers its threads and checks them later.

It checks no other threads. Other rows without a thread belong to graphs that were called outside of
the API, or to a database that is not adopted yet.
"""

from collections.abc import Iterable
from time import monotonic

import structlog

from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection
from headrace.db.pool import SharedPool
from headrace.db.statements import statement
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.writer")

#: Postgres may still carry out a flush for so long after the writer gave it up, because the flush
#: may wait for locks.
_AFTER_SECONDS = 120.0
#: At most this many threads are remembered.
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
    """Threads of runs that had a flush without an answer, with the time to check them."""

    def __init__(self, *, after_seconds: float = _AFTER_SECONDS) -> None:
        self.after_seconds = after_seconds
        self._due_at: dict[str, float] = {}

    def remember(self, thread_ids: Iterable[str]) -> None:
        """Note that a flush for these threads was given up, and that Postgres may carry it out."""
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
    """One per process, for flushes that its own writer has given up."""

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
        """Delete the rows of remembered threads that are gone; returns how many rows.

        :raises Unavailable: the database could not be reached. The next round checks the threads.
        """
        deleted = 0
        while due := self._strays.due():
            with translated_faults():
                async with indexed_connection(self._pool) as connection:
                    made = [
                        await connection.execute(delete, {"ids": due}, prepare=False)
                        for delete in _DELETES
                    ]
                deleted += sum(cursor.rowcount for cursor in made)
            self._strays.forget(due)
        if deleted:
            _log.warning("stray_rows_deleted", rows=deleted)
        return deleted
