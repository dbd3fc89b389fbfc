"""Rescues runs of lost processes: they go on in other processes, or end after too many losses.

A process is lost when its lease has expired (:meth:`Rescuer.sweep`), or when it is known to be dead
(:meth:`Rescuer.rescue_from_dead`, which :mod:`headrace.worker.death_watch` calls).

Also ends waiting runs whose graph no process serves, or whose deadline has passed, and mends
threads that no process would claim.
"""

from collections.abc import Iterable, Mapping
from time import monotonic
from uuid import UUID

import structlog

from headrace.lifecycle import Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.metrics import Metrics
from headrace.queue.queue import Queue
from headrace.queue.takeover import TakenRun
from headrace.setting_groups import WorkerSettings
from headrace.tracing.trace_context import stored_context
from headrace.tracing.tracer import Tracer
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.rescuer")

_ERROR = {
    "error": "ProcessLost",
    "message": "Server processes were lost while they executed this run, as often as"
    " worker.max_failures allows.",
}

_MEND_SECONDS = 60.0
_UNSERVED_SECONDS = 10.0


class Rescuer:
    """One per process; any number may sweep at once."""

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        settings: WorkerSettings,
        metrics: Metrics,
        roster: Roster,
        notifier: Notifier,
        tracer: Tracer,
    ) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._metrics = metrics
        self._roster = roster
        self._notifier = notifier
        self._tracer = tracer
        self._mended_at = monotonic()
        self._ended_unserved_at = float("-inf")

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep_if_leased,
            every_seconds=self._settings.sweep_seconds,
            name="rescuer",
            log=_log,
            skipped_event="sweep_skipped",
        )

    async def _sweep_if_leased(self) -> None:
        if self._heartbeat.judges_others:
            await self.sweep()
        elif self._heartbeat.process_id is not None:
            # Soon after a failover: the runs of processes that it has left behind need not wait.
            await self._rescue(by_clock=False)

    async def sweep(self) -> None:
        """One round."""
        await self._rescue(by_clock=True)
        await self._end_unserved()
        await self._end_overdue()
        if monotonic() - self._mended_at > _MEND_SECONDS:
            if mended := await self._queue.takeover.mend_threads():
                _log.warning("threads_mended", threads=mended)
                self._roster.announce()
            self._mended_at = monotonic()

    async def _rescue(self, *, by_clock: bool) -> None:
        self._tell(
            await self._queue.takeover.take_runs_of_lost_processes(
                _ERROR,
                max_failures=self._settings.max_failures,
                apart_seconds=self._settings.apart_seconds,
                by_clock=by_clock,
            )
        )

    async def rescue_from_dead(self, dead: Mapping[UUID, float]) -> None:
        """Rescue the runs of processes whose end is proven.

        :param dead: process id to seconds since its end.
        :raises Unavailable: the database did not answer.
        """
        self._tell(
            await self._queue.takeover.take_runs_of_dead_processes(
                dead,
                _ERROR,
                max_failures=self._settings.max_failures,
                apart_seconds=self._settings.apart_seconds,
            )
        )

    def _tell(self, taken: Iterable[TakenRun]) -> None:
        """Count, log and trace what was taken, and tell who waits for it."""
        for run in taken:
            self._metrics.runs.count_rescue(run.status, run.proof, again=run.again)
            _log.warning(
                "run_rescued",
                run_id=str(run.run_id),
                thread_id=run.thread_id,
                graph_id=run.graph_id,
                status=run.status,
                failures=run.failures,
                proof=run.proof,
            )
            self._trace(run)
            if run.status == "pending":
                self._roster.announce_lost_run()
            else:
                self._notifier.run_changed(run.run_id)
                self._metrics.runs.count_run(run.graph_id, run.status)
                if run.status == "error":
                    self._metrics.runs.count_error(run.graph_id, "lost")

    def _trace(self, run: TakenRun) -> None:
        """Tell of the attempt that was lost: its process cannot."""
        if run.started_at is not None:
            self._tracer.lost_attempt(
                stored_context(run.traceparent),
                run.run_id,
                run.attempt,
                thread_id=run.thread_id,
                graph_id=run.graph_id,
                began_at=run.started_at,
                lived_seconds=run.lived_seconds,
            )

    async def _end_unserved(self) -> None:
        seconds = self._settings.unserved_timeout_seconds
        # A process that drains does not count itself: it may be the only one for some seconds.
        if not seconds or self._roster.draining:
            return
        if monotonic() - self._ended_unserved_at < _UNSERVED_SECONDS:
            return
        self._ended_unserved_at = monotonic()
        for run in await self._queue.takeover.end_unserved_runs(seconds):
            _log.warning(
                "unserved_run_ended",
                run_id=str(run.run_id),
                thread_id=run.thread_id,
                graph_id=run.graph_id,
            )
            self._notifier.run_changed(run.run_id)
            self._metrics.runs.count_run(run.graph_id, run.status)
            self._metrics.runs.count_error(run.graph_id, "unserved")

    async def _end_overdue(self) -> None:
        """End runs that have waited until their deadline: clients may wait for their ends."""
        for run in await self._queue.takeover.end_overdue_runs():
            _log.warning(
                "overdue_run_ended",
                run_id=str(run.run_id),
                thread_id=run.thread_id,
                graph_id=run.graph_id,
            )
            self._notifier.run_changed(run.run_id)
            self._metrics.runs.count_run(run.graph_id, run.status)
            self._metrics.runs.count_error(run.graph_id, "deadline")
