"""Limits how many runs of one caller may wait in the queue.

Counting the queue for each run would be slow. So each process counts the queue now and then, and
adds the runs that it has queued since the count. Other processes may queue runs between two counts:
so a caller may get a few runs more than the limit into the queue.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from time import monotonic

import structlog

from headrace.errors import TooManyQueuedRuns
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.worker")

#: While a process queues runs, it counts the queue this often.
_COUNT_SECONDS = 5.0
#: A run is refused only after a count that is no older than this.
_FRESH_SECONDS = 1.0
#: After a slow count, the process waits this many times as long as the count took.
_PAUSE_FACTOR = 20
_LOG_AGAIN_SECONDS = 60.0


class Admission:
    """One per process."""

    def __init__(self, queue: Queue, metrics: Metrics, *, max_queued_runs: int) -> None:
        self._queue = queue
        self._metrics = metrics
        self._max = max_queued_runs
        #: Waiting runs by caller, at the last count.
        self._counted: dict[str, int] = {}
        #: Runs that this process has admitted since.
        self._since: Counter[str] = Counter()
        self._asked = asyncio.Event()
        self._counting = asyncio.Lock()
        self._counted_at = self._logged_at = float("-inf")
        self._count_took = 0.0

    async def admit(self, caller: str) -> None:
        """Admit one more run of this caller to the queue.

        :raises TooManyQueuedRuns: ``callers.max_queued_runs`` of its runs wait already.
        """
        self._asked.set()
        if self._queued(caller) >= self._max:
            await self._count_if_older_than(_FRESH_SECONDS)
        queued = self._queued(caller)
        if queued < self._max:
            self._since[caller] += 1
            return
        self._metrics.runs.count_refused_run("too_many_queued_runs")
        if monotonic() - self._logged_at > _LOG_AGAIN_SECONDS:
            self._logged_at = monotonic()
            _log.warning("run_refused", caller=caller, queued=queued, limit=self._max)
        raise TooManyQueuedRuns(
            f"{self._max} of your runs wait in the queue, as many as callers.max_queued_runs"
            " allows. Wait until some have ended, or cancel some."
        )

    def _queued(self, caller: str) -> int:
        return self._counted.get(caller, 0) + self._since[caller]

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._count_when_asked, name="admission", vital=False)

    async def _count_when_asked(self) -> None:
        while True:
            # A process that queues no runs has no need to count.
            await self._asked.wait()
            await self._count_if_older_than(_COUNT_SECONDS)
            await asyncio.sleep(_COUNT_SECONDS)

    async def _count_if_older_than(self, seconds: float) -> None:
        async with self._counting:
            age = monotonic() - self._counted_at
            if age < max(seconds, _PAUSE_FACTOR * self._count_took):
                return
            # While the database is away, the process uses its last count.
            with suppress(Unavailable):
                await self._count()

    async def _count(self) -> None:
        begun, before = monotonic(), self._since.copy()
        self._asked.clear()
        self._counted = await self._queue.callers.pending()
        # This count may miss a run whose commit is under way; the next count finds it.
        self._since.subtract(before)
        self._since = +self._since
        self._counted_at = monotonic()
        self._count_took = self._counted_at - begun
