"""The run worker of a process: capacity, the runs it has, and their orderly end."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

import structlog

from headrace.errors import AtCapacity, Draining, Unavailable
from headrace.lifecycle import Tasks
from headrace.runs.dispatcher import CancelAction, Cancellation, RunRequest, StartedRun
from headrace.runs.queue import Queue
from headrace.settings import WorkerSettings
from headrace.worker.channels import Channels
from headrace.worker.execution import Execution, Stop
from headrace.worker.executor import Executor
from headrace.worker.heartbeat import Heartbeat

_LEASE_LOST = "The server process lost its lease on this run."

_log = structlog.stdlib.get_logger("headrace.worker")


class Worker:
    """Implements :class:`headrace.runs.dispatcher.Dispatcher`."""

    def __init__(
        self,
        executor: Executor,
        queue: Queue,
        heartbeat: Heartbeat,
        channels: Channels,
        settings: WorkerSettings,
    ) -> None:
        self._executor = executor
        self._channels = channels
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._tasks = Tasks()
        self._executions: set[Execution] = set()
        self._starting = 0
        self._draining = False

    @property
    def running(self) -> int:
        """Runs this process executes now."""
        return len(self._executions)

    def executions(self) -> Collection[Execution]:
        """The runs this process executes now."""
        return self._executions

    def execution_of(self, run_id: UUID) -> Execution | None:
        """The run, if this process executes it."""
        return next((one for one in self._executions if one.run_id == run_id), None)

    async def start(self, request: RunRequest) -> Execution:
        if self._draining:
            raise Draining
        if self.running + self._starting >= self._settings.max_concurrent_runs:
            raise AtCapacity
        process_id = self._heartbeat.process_id
        if process_id is None:
            raise Unavailable("This process has no lease at the moment; try again.")
        self._starting += 1
        starting = self._tasks.start(
            self._queue.start_if_thread_free(request, process_id), name=f"start-{request.run_id}"
        )
        try:
            started = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The row may be committed any moment, and a run without an executor never ends.
            starting.add_done_callback(partial(self._begin_unclaimed, request, process_id))
            raise
        finally:
            self._starting -= 1
        return self._begin(request, process_id, started)

    async def cancel(
        self, tenant: str, run_ids: Sequence[UUID], action: CancelAction, reason: str
    ) -> list[Cancellation]:
        raise NotImplementedError

    def wake(self) -> None:
        """Nothing is claimed yet."""

    def refuse_new(self) -> None:
        """From now on no run is started here."""
        self._draining = True

    async def finish(self, grace_seconds: float) -> None:
        """Let runs go on for the grace, then end the rest as ``error``; none is left on return."""
        self.refuse_new()
        if self._tasks:
            _log.info("drain_started", runs=self.running, grace_seconds=grace_seconds)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._join()
        except TimeoutError:
            _log.warning("drain_cut_runs", runs=self.running)
        self._stop_all(Stop.SHUTDOWN, "The server shut down before the run ended.")
        await self._join()

    def drop_all(self) -> None:
        """The lease is lost: stop everything, write nothing."""
        self._stop_all(Stop.LEASE_LOST, _LEASE_LOST)

    async def stop(self) -> None:
        """End what is left; a drain normally left nothing."""
        await self.finish(0)

    def _stop_all(self, stop: Stop, message: str) -> None:
        for execution in self._executions:
            execution.ask_to_stop(stop, message)

    async def _join(self) -> None:
        while self._tasks or self._starting:
            await self._tasks.join()
            await asyncio.sleep(0)

    def _begin(self, request: RunRequest, process_id: UUID, started: StartedRun) -> Execution:
        """Start executing; synchronous, so that the caller can subscribe before the first event."""
        execution = Execution(request, started, process_id, self._channels)
        if process_id != self._heartbeat.process_id:
            execution.ask_to_stop(Stop.LEASE_LOST, _LEASE_LOST)
        self._executions.add(execution)
        self._tasks.start(self._execute(execution), name=f"run-{request.run_id}")
        return execution

    def _begin_unclaimed(
        self, request: RunRequest, process_id: UUID, starting: asyncio.Task[StartedRun]
    ) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._begin(request, process_id, starting.result())

    async def _execute(self, execution: Execution) -> None:
        structlog.contextvars.bind_contextvars(
            run_id=str(execution.run_id), thread_id=execution.thread_id
        )
        try:
            await self._executor.execute(execution)
        finally:
            self._executions.discard(execution)
