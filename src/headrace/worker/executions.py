"""The executions of a process: how each begins, and what follows when it has ended."""

import structlog

from headrace.lifecycle import Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.metrics import Metrics
from headrace.queue.ends import RELEASED, EndedRun
from headrace.queue.rows import Attempt
from headrace.tracing.trace_context import log_fields
from headrace.worker.channels import Channels
from headrace.worker.deaf_runs import DeafRuns
from headrace.worker.execution import Execution, Stop
from headrace.worker.executor import Executor
from headrace.worker.handover import Handover
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.quarantine import Quarantine
from headrace.worker.roster import Roster
from headrace.worker.run_log import RunLog
from headrace.worker.run_result import RunResult
from headrace.worker.stop_requests import StopRequests

LEASE_LOST = "The server process lost its lease on this run."
_SHUT_DOWN = "The server shut down."

_log = structlog.stdlib.get_logger("headrace.worker")


class Executions:
    """One per process.

    :param tasks: of the worker. It waits for each execution.
    :param slow_node_seconds: a node that takes longer is logged while it runs.
    """

    def __init__(
        self,
        executor: Executor,
        heartbeat: Heartbeat,
        channels: Channels,
        notifier: Notifier,
        roster: Roster,
        stop_requests: StopRequests,
        quarantine: Quarantine,
        deaf_runs: DeafRuns,
        handover: Handover,
        metrics: Metrics,
        run_log: RunLog,
        tasks: Tasks,
        *,
        slow_node_seconds: float,
    ) -> None:
        self._executor = executor
        self._heartbeat = heartbeat
        self._channels = channels
        self._notifier = notifier
        self._roster = roster
        self._stop_requests = stop_requests
        self._quarantine = quarantine
        self._deaf_runs = deaf_runs
        self._handover = handover
        self._metrics = metrics
        self._run_log = run_log
        self._tasks = tasks
        self._slow_node_seconds = slow_node_seconds
        #: The grace is over: a run that a claim under way still brings is released at once.
        self._releasing = False

    def begin(self, attempt: Attempt) -> Execution:
        """Start executing. Synchronous, so that the caller can subscribe before the first event."""
        execution = Execution(
            attempt,
            self._channels,
            self._metrics.attempts,
            slow_node_seconds=self._slow_node_seconds,
        )
        if attempt.process_id != self._heartbeat.process_id:
            execution.ask_to_stop(Stop.LEASE_LOST, LEASE_LOST)
        elif self._releasing or self._handover.must_leave(execution):
            execution.ask_to_stop(Stop.RELEASED, _SHUT_DOWN)
        self._roster.add(execution)
        self._stop_requests.begun(execution.run_id)
        if attempt.watched:
            execution.channel.watch(True)
        if attempt.asked is not None:
            execution.stop_as_asked(attempt.asked)
        self._tasks.start(self._execute(execution), name=f"run-{execution.run_id}")
        return execution

    def release_all(self) -> None:
        """The grace is over: cut all runs, and give them back to the queue."""
        self._releasing = True
        for execution in self._roster.executions.values():
            execution.ask_to_stop(Stop.RELEASED, _SHUT_DOWN)

    def drop_all(self) -> None:
        """Stop all runs that began under a lease that is lost, and write nothing for them."""
        for execution in self._roster.executions.values():
            if execution.token.process_id != self._heartbeat.process_id:
                execution.ask_to_stop(Stop.LEASE_LOST, LEASE_LOST)

    async def _execute(self, execution: Execution) -> None:
        # A run from the queue does not inherit the log context of the request that made it.
        structlog.contextvars.bind_contextvars(
            run_id=str(execution.run_id),
            thread_id=execution.thread_id,
            request_id=execution.request.request_id,
            graph_id=execution.request.graph_id,
            assistant_id=str(execution.request.assistant_id),
            **log_fields(execution.request.trace),
        )
        self._run_log.started(execution)
        result: RunResult | None = None
        try:
            result = await self._executor.execute(execution)
            if result.ended is not None:
                self._tell_others(execution, result.ended)
            await self._executor.finish(execution, result)
        finally:
            self._roster.remove(execution)
            self._quarantine.end(execution.run_id)
            if self._roster.draining:
                self._metrics.runs.count_drained(_how_drained(execution, result))
            if not self._deaf_runs.keep(execution):
                self._roster.give_back(execution)

    def _tell_others(self, execution: Execution, ended: EndedRun) -> None:
        """Tell other processes of a committed end, and have the thread's next run claimed."""
        try:
            if ended.watched:
                self._notifier.run_changed(execution.run_id)
            if ended.more:
                # This process has room for the next run once this run has left.
                self._roster.announce(room=True)
        except Exception:
            # Other processes and the next round of claims will see the end in the rows.
            _log.exception("run_end_not_told")


def _how_drained(execution: Execution, result: RunResult | None) -> str:
    """How a run has left a draining process, for the metric."""
    if result is None or result.ended is None or result.ended.end is not RELEASED:
        return "finished"
    return "at_boundary" if execution.stopped_at_boundary else "cut"
