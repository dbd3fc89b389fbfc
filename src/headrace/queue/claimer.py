"""Claims of waiting runs: a process takes runs from the queue to execute them.

Each claim is one transaction, which obeys the law at the top of queue.sql.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import structlog

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.writer import Writer
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.transactions import locking_transaction
from headrace.errors import LeaseLost
from headrace.queue.ends import End, RunEnd, queue_statements
from headrace.queue.ready_callers import LOOK_AT_ALL_SECONDS, OVERLAP, SINCE_EVER, CallerRuns
from headrace.queue.rows import Attempt, claimed_attempt
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.queue")

#: The end of a run whose row another program has written or damaged.
_UNREADABLE = RunEnd(
    "error",
    "error",
    {"error": "RunUnreadable", "message": "The row of this run does not say what to execute."},
    cause="platform",
)


@dataclass(frozen=True, slots=True)
class Suspects:
    """Figures about waiting suspects. A suspect is a run that processes were lost with repeatedly;
    it runs alone.
    """

    #: How long the suspect that became ready first has waited.
    waiting_seconds: float
    #: Processes that execute a suspect now.
    executing: int
    processes: int
    #: Processes that are older than the one that asks.
    older: int


@dataclass(frozen=True, slots=True)
class LostRuns:
    """Waiting runs whose process was lost. Rescued runs go on before other runs, beside any run."""

    #: How many rescued runs may be claimed: those that are no suspects.
    rescued: int
    suspects: Suspects | None


class Claimer:
    """One per process. It remembers how far it has looked for ready runs.

    :param suspect_failures: a run that so many processes were lost with is claimed alone.
    :param count_unreadable: called with the graph of each run that ended because its row cannot be
        read.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        *,
        lock_timeout_seconds: float,
        suspect_failures: int,
        count_unreadable: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._sql = queue_statements()
        self._suspect_failures = suspect_failures
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds
        )
        self._count_unreadable = count_unreadable
        self._last_ready: datetime | None = None
        self._looked_at_all = float("-inf")

    async def claim(self, process_id: UUID, graph_ids: Sequence[str], limit: int) -> list[Attempt]:
        """Claim up to ``limit`` runs that may run now; first those that have been ready longest."""
        whole = monotonic() - self._looked_at_all > LOOK_AT_ALL_SECONDS
        floor = SINCE_EVER if whole or self._last_ready is None else self._last_ready - OVERLAP
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "limit": limit,
            "floor": floor,
            "suspect_failures": self._suspect_failures,
        }
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_ready_threads"], values, prepare=True)
            found = await connection.execute(
                self._sql["claim_runs_of_locked_threads"], values, prepare=True
            )
            rows = await found.fetchall()
        if whole and len(rows) < limit:
            self._looked_at_all = monotonic()
        if rows and (self._last_ready is None or rows[-1][-1] > self._last_ready):
            self._last_ready = rows[-1][-1]
        return await self._readable(rows, process_id)

    async def claim_for_callers(
        self, process_id: UUID, graph_ids: Sequence[str], wanted: Sequence[CallerRuns]
    ) -> list[Attempt]:
        """Claim as many runs of each caller as ``wanted`` says; first the longest ready runs."""
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "callers": [one.caller for one in wanted],
            "floors": [one.first_ready for one in wanted],
            "turns": [one.runs for one in wanted],
            "suspect_failures": self._suspect_failures,
        }
        async with self._transaction() as connection:
            await connection.execute(
                self._sql["lock_ready_threads_of_callers"], values, prepare=True
            )
            found = await connection.execute(
                self._sql["claim_runs_of_locked_threads"], values, prepare=True
            )
            rows = await found.fetchall()
        return await self._readable(rows, process_id)

    async def lost_runs(
        self, process_id: UUID, graph_ids: Sequence[str], *, apart_seconds: float
    ) -> LostRuns:
        """What :meth:`claim_rescued` and :meth:`claim_suspect` could claim."""
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "apart_seconds": apart_seconds,
            "suspect_failures": self._suspect_failures,
        }
        with translated_faults():
            rows = await indexed_rows(self._pool, self._sql["look_for_lost_runs"], values)
        if not rows:
            return LostRuns(0, None)
        ((rescued, waiting_seconds, *others),) = rows
        suspects = None if waiting_seconds is None else Suspects(waiting_seconds, *others)
        return LostRuns(rescued, suspects)

    async def claim_rescued(
        self, process_id: UUID, graph_ids: Sequence[str], limit: int
    ) -> list[Attempt]:
        """Claim up to ``limit`` rescued runs that are no suspects; the oldest runs first."""
        values = {"process_id": process_id, "graph_ids": list(graph_ids), "limit": limit}
        return await self._claim_lost("lock_threads_of_rescued", values)

    async def claim_suspect(self, process_id: UUID, graph_ids: Sequence[str]) -> list[Attempt]:
        """Claim the suspect that has waited longest, if there is one."""
        values = {"process_id": process_id, "graph_ids": list(graph_ids)}
        return await self._claim_lost("lock_thread_of_suspect", values)

    async def _claim_lost(self, lock: str, values: Mapping[str, Any]) -> list[Attempt]:
        values = {**values, "suspect_failures": self._suspect_failures}
        async with self._transaction() as connection:
            await connection.execute(self._sql[lock], values)
            found = await connection.execute(self._sql["claim_runs_of_locked_threads"], values)
            rows = await found.fetchall()
        return await self._readable(rows, values["process_id"])

    async def _readable(self, rows: Sequence[Any], process_id: UUID) -> list[Attempt]:
        """The runs of these rows; a run that cannot be read ends as an error."""
        claimed: list[Attempt] = []
        for row in rows:
            try:
                claimed.append(claimed_attempt(process_id, *row[:-1]))
            except Exception:
                token, thread_id = RunToken(row[0], row[9], process_id), row[1]
                _log.exception(
                    "claimed_run_unreadable",
                    run_id=str(row[0]),
                    thread_id=thread_id,
                    graph_id=row[3],
                )
                # If this fails, the process later finds a run that it does not know, and releases
                # it.
                with suppress(LeaseLost, Unavailable):
                    await self._writer.commit(End(token, thread_id, _UNREADABLE))
                    self._count_unreadable(row[3])
        return claimed
