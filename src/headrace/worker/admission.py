"""How many runs of one caller may wait in the queue: more are refused.

No run is counted when it is queued. Each process looks at the queue now and then, while it queues
runs, and counts by itself what it has queued since. So more runs than the limit get in, at most as
many as the other processes queue between two looks.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from time import monotonic

import structlog

from headrace.errors import TooManyQueuedRuns, Unavailable
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.queue.queue import Queue

_log = structlog.stdlib.get_logger("headrace.worker")

#: A process that queues runs looks this often.
_LOOK_SECONDS = 5.0
#: Before a run is refused the last look is no older than this.
_FRESH_SECONDS = 1.0
#: A look that takes long is followed by so many times as long without one.
_PAUSE_FACTOR = 20
_LOG_AGAIN_SECONDS = 60.0


class Admission:
    """One per process."""

    def __init__(self, queue: Queue, metrics: Metrics, *, max_queued_runs: int) -> None:
        self._queue = queue
        self._metrics = metrics
        self._max = max_queued_runs
        self._seen: dict[str, int] = {}
        #: Admitted here since the last look.
        self._since: Counter[str] = Counter()
        self._asked = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_at = self._logged_at = float("-inf")
        self._look_took = 0.0

    async def admit(self, caller: str) -> None:
        """A run of this caller is about to be queued.

        :raises TooManyQueuedRuns: as many wait as may.
        """
        self._asked.set()
        if self._queued(caller) >= self._max:
            await self._look_if_older_than(_FRESH_SECONDS)
        queued = self._queued(caller)
        if queued < self._max:
            self._since[caller] += 1
            return
        self._metrics.count_refused_run("too_many_queued_runs")
        if monotonic() - self._logged_at > _LOG_AGAIN_SECONDS:
            self._logged_at = monotonic()
            _log.warning("run_refused", caller=caller, queued=queued, limit=self._max)
        raise TooManyQueuedRuns(
            f"{self._max} of your runs wait in the queue, as many as callers.max_queued_runs"
            " allows. Wait until some have ended, or cancel some."
        )

    def _queued(self, caller: str) -> int:
        return self._seen.get(caller, 0) + self._since[caller]

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._look_when_asked, name="admission", vital=False)

    async def _look_when_asked(self) -> None:
        while True:
            # A process that queues nothing need not know.
            await self._asked.wait()
            await self._look_if_older_than(_LOOK_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look_if_older_than(self, seconds: float) -> None:
        async with self._looking:
            age = monotonic() - self._looked_at
            if age < max(seconds, _PAUSE_FACTOR * self._look_took):
                return
            # Where it cannot be told, the last look holds.
            with suppress(Unavailable):
                await self._look()

    async def _look(self) -> None:
        begun, before = monotonic(), self._since.copy()
        self._asked.clear()
        self._seen = await self._queue.callers.pending()
        # A run that is being queued just now is missed, until the next look.
        self._since.subtract(before)
        self._since = +self._since
        self._looked_at = monotonic()
        self._look_took = self._looked_at - begun
