"""The callers whose runs wait. A process asks for them before it claims, if callers take turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.queue.ends import queue_statements

#: One claim looks at so many callers. The next claim continues with the callers after them.
MAX_CALLERS = 1000

#: A transaction sets a ready time when it begins, and others see it when it commits. So each look
#: for ready threads, here and in a claim, goes back this far behind the times that were seen.
OVERLAP = timedelta(seconds=5)
#: How often a look takes in all ready threads, because a transaction may take longer than that.
LOOK_AT_ALL_SECONDS = 5.0
SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CallerRuns:
    """How many runs of one caller may be claimed, or were chosen to be claimed."""

    caller: str
    runs: int
    #: When the first of these runs became ready.
    first_ready: datetime


class ReadyCallers:
    """One per process. It only reads: another process may claim these runs meanwhile."""

    def __init__(
        self, pool: SharedPool, *, suspect_failures: int, max_callers: int = MAX_CALLERS
    ) -> None:
        self._pool = pool
        self._suspect_failures = suspect_failures
        self._max_callers = max_callers
        self._sql = queue_statements()
        #: Threads that became ready before this time were claimed before the last look. An old
        #: snapshot may keep their entries in the index.
        self._floor = SINCE_EVER
        self._looked_at_all = float("-inf")
        #: The caller to begin with, if there are too many callers for one look.
        self._since = ""

    async def ready(self, graph_ids: Sequence[str], limit: int) -> list[CallerRuns]:
        """The callers with runs that may be claimed, each with up to ``limit`` of them."""
        whole = monotonic() - self._looked_at_all > LOOK_AT_ALL_SECONDS
        values = {
            "graph_ids": list(graph_ids),
            "limit": limit,
            "floor": SINCE_EVER if whole else self._floor,
            "since": self._since,
            "bound": self._max_callers,
            "suspect_failures": self._suspect_failures,
        }
        rows = await self._rows("ready_callers", values)
        now = rows[0][0]
        found = [CallerRuns(*row[1:]) for row in rows if row[2]]
        full = len(rows) == self._max_callers
        if self._since or full:
            # Other callers were not looked at, and their threads may be older.
            self._floor = SINCE_EVER
        else:
            self._floor = min([now, *(one.first_ready for one in found)]) - OVERLAP
            if whole:
                self._looked_at_all = monotonic()
        self._since = rows[-1][1] if full else ""
        return found

    async def pending(self) -> dict[str, int]:
        """How many runs of each caller wait for a place, for their thread, or for their time."""
        return dict(await self._rows("pending_runs_of_callers", {}))

    async def _rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with translated_faults():
            return await indexed_rows(self._pool, self._sql[statement], values)
