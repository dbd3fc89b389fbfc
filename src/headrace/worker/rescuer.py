"""Runs of processes that died: until runs can go on elsewhere they end as ``error`` and their
threads are free again."""

import asyncio

import structlog

from headrace.checkpoints.saver import TimedSaver
from headrace.db.faults import translated_faults
from headrace.errors import Unavailable
from headrace.observability.metrics import Metrics
from headrace.runs.queue import Queue
from headrace.settings import WorkerSettings
from headrace.worker.heartbeat import Heartbeat

_log = structlog.stdlib.get_logger("headrace.rescuer")

_ERROR = {
    "error": "ProcessLost",
    "message": "The server process that executed this run is gone; start the run again.",
}

#: A temporary thread is deleted right after its run; one this old was forgotten.
_ABANDONED_AFTER_SECONDS = 300.0


class Rescuer:
    """One per process; any number may sweep at once."""

    def __init__(
        self,
        queue: Queue,
        saver: TimedSaver,
        heartbeat: Heartbeat,
        settings: WorkerSettings,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._saver = saver
        self._heartbeat = heartbeat
        self._settings = settings
        self._metrics = metrics

    async def sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            if not self._heartbeat.judges_others:
                continue
            try:
                await self.sweep()
            except Unavailable as fault:
                _log.warning("sweep_skipped", cause=fault.code)

    async def sweep(self) -> None:
        """One round."""
        for run in await self._queue.fail_runs_of_lost_processes(_ERROR):
            _log.warning("run_failed_by_sweep", run_id=str(run.run_id), thread_id=run.thread_id)
            self._metrics.count_run(run.graph_id, "error")
        for thread_id in await self._queue.abandoned_temporary_threads(
            older_than_seconds=_ABANDONED_AFTER_SECONDS
        ):
            with translated_faults():
                await self._saver.adelete_thread(thread_id)
            await self._queue.delete_temporary_thread(thread_id)
