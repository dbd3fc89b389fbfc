"""Requests from other processes to the runs that this one executes: to stop, or to store events.

The run's row holds the request. A notice only makes this process look at the row sooner.
"""

import asyncio
from uuid import UUID

import structlog

from headrace.event_settings import EventSettings
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Listeners
from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable
from headrace.worker.execution import Execution
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.control")

#: A notice may come after the commit that gives a run to this process, but before the run begins
#: here. So this process remembers this many notices about runs that it does not execute.
_UNKNOWN_RUNS = 1000


class StopRequests:
    """One per process. While runs are executed, it reads their rows on a notice and each second."""

    def __init__(
        self, queue: Queue, settings: EventSettings, listeners: Listeners, roster: Roster
    ) -> None:
        self._queue = queue
        self._poll_seconds = settings.poll_seconds
        self._roster = roster
        self._wake = Signal()
        #: Runs that had a notice while they were not executed here; the latest is the last.
        self._unknown: dict[UUID, None] = {}
        listeners.add(on_run=self._heard, on_any=self._wake.set)

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._look_when_woken, name="control")

    def begun(self, run_id: UUID) -> None:
        """Note that a run is executed here from now on. A request may have come just before."""
        if run_id in self._unknown:
            self._wake.set()

    def _heard(self, run_id: UUID) -> None:
        if run_id in self._roster.executions:
            self._wake.set()
            return
        self._unknown.pop(run_id, None)
        self._unknown[run_id] = None
        if len(self._unknown) > _UNKNOWN_RUNS:
            del self._unknown[next(iter(self._unknown))]

    async def _look_when_woken(self) -> None:
        while True:
            await self._wake.wait(self._poll_seconds)
            self._wake.clear()
            executions = dict(self._roster.executions)
            if not executions:
                continue
            try:
                await self._look(executions)
            except Unavailable as fault:
                _log.warning("control_delayed", runs=len(executions), cause=fault.code)
                await asyncio.sleep(self._poll_seconds)

    async def _look(self, executions: dict[UUID, Execution]) -> None:
        asked = await self._queue.requests_to({one.token.process_id for one in executions.values()})
        for run_id, execution in executions.items():
            request, watched = asked.get(run_id, (None, False))
            try:
                execution.channel.watch(watched)
                if request is not None:
                    execution.stop_as_asked(request)
            except Exception:
                _log.exception("request_not_passed_on", run_id=str(run_id))
