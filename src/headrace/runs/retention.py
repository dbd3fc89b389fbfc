"""Deletes runs that ended long ago; any process may sweep.

Their threads and checkpoints, and so the conversations, stay: no checkpoint refers to the row of a
run.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog

from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection, indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.db.thread_configurations import forget_configurations, lock_threads_of_runs
from headrace.ids import earliest_uuid7
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.runs")

#: Runs that one statement looks at, or deletes.
_BATCH = 500
_BEFORE_ALL = UUID(int=0)


class RunSweeper:
    """One per process; any number may sweep at once.

    :param keep_seconds: how long a run is kept after its end.
    :param limit: how many runs one round looks at.
    :param count: called with the number of deleted runs.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        keep_seconds: float,
        interval_seconds: float,
        limit: int,
        count: Callable[[int], None],
    ) -> None:
        self._pool = pool
        self._keep_seconds = keep_seconds
        self._interval_seconds = interval_seconds
        self._limit = limit
        self._count = count
        self._sql = named_statements("headrace.runs", "retention.sql")
        #: The last run that was looked at. After the newest run, a round begins with the oldest.
        self._after = _BEFORE_ALL

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._interval_seconds,
            jitter=0.3,
            name="run-sweeper",
            log=_log,
            skipped_event="runs_kept_longer",
        )

    async def _sweep(self) -> None:
        if deleted := await self.sweep():
            _log.info("runs_expired", runs=deleted)

    async def sweep(self) -> int:
        """One round; returns how many runs were deleted.

        :raises Unavailable: the database could not be reached; deleted runs stay deleted.
        """
        before = earliest_uuid7(time.time() - self._keep_seconds)
        looked_at = deleted = 0
        while looked_at < self._limit:
            wanted = min(_BATCH, self._limit - looked_at)
            looked = await self._look(before, wanted)
            looked_at += len(looked)
            if expired := [run_id for run_id, over in looked if over]:
                deleted += await self._delete(expired)
            self._after = looked[-1][0] if len(looked) == wanted else _BEFORE_ALL
            if len(looked) < wanted:
                break
        return deleted

    async def _look(self, before: UUID, limit: int) -> list[tuple[UUID, bool]]:
        values: dict[str, Any] = {
            "after": self._after,
            "before": before,
            "keep_seconds": self._keep_seconds,
            "limit": limit,
        }
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql["look_at_oldest"], values)
        return [(run_id, over) for run_id, over in rows]

    async def _delete(self, run_ids: list[UUID]) -> int:
        with translated_faults():
            async with indexed_connection(self._pool) as connection:
                threads = await lock_threads_of_runs(connection, run_ids)
                cursor = await connection.execute(self._sql["delete_ended"], {"run_ids": run_ids})
                await forget_configurations(connection, threads)
        self._count(cursor.rowcount)
        return cursor.rowcount
