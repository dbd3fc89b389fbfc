"""Counts and logs what happens to the runs of a process: queued, claimed, started, ended.

A run from the queue has four lines at info. A run that starts in place has one: at 300 runs a
second a second line would cost much, and say nothing that ``run_ended`` does not say.
"""

from time import monotonic
from typing import Any
from uuid import UUID

import structlog

from headrace.observability.metrics import Metrics
from headrace.observability.process import process_name
from headrace.queue.ends import RunEnd
from headrace.queue.rows import (
    Attempt,
    Cancellation,
    CancelReason,
    QueuedRun,
    RunRequest,
    StopRequest,
)
from headrace.worker.execution import Execution

_log = structlog.stdlib.get_logger("headrace.worker")


class RunLog:
    """One per process, for all who queue, claim, start or end runs."""

    def __init__(self, metrics: Metrics) -> None:
        self._runs = metrics.runs
        self._attempts = metrics.attempts
        self._process = process_name()

    def queued(self, request: RunRequest, queued: QueuedRun, reason: str) -> None:
        """A run was put into the queue.

        :param reason: ``busy`` (another run has its thread), ``full`` (all places are taken),
            ``share`` (its caller has its share of them), ``delayed``, ``cron`` (a cron has made
            it), ``draining``, or ``not_here`` (this process executes no runs, or has no lease).
        """
        _log.info("run_queued", **_names(request), reason=reason)
        if request.multitask_strategy in ("interrupt", "rollback"):
            for _ in {queued.replaced, *queued.ended} - {None}:
                self.cancelled("next_run")
        for run_id in queued.removed:
            self.removed(run_id, request.thread_id, StopRequest("rollback", "next_run"))

    def cancelled(self, reason: CancelReason) -> None:
        """A run that had not ended was asked to stop."""
        self._runs.count_cancel(reason)

    def asked_to_stop(self, run: Cancellation, asked: StopRequest) -> None:
        """A run was asked to stop, or had ended a moment before."""
        _log.info(
            "run_stop_asked",
            run_id=str(run.run_id),
            thread_id=run.thread_id,
            action=asked.action,
            reason=asked.reason,
            note=asked.note,
            state=run.state,
        )

    def removed(self, run_id: UUID, thread_id: str, asked: StopRequest) -> None:
        """A waiting run was rolled back: nothing else will say that there was such a run."""
        _log.info(
            "run_rolled_back",
            run_id=str(run_id),
            thread_id=thread_id,
            reason=asked.reason,
            note=asked.note,
        )

    def claimed(self, attempt: Attempt) -> None:
        """A run was claimed from the queue."""
        self._runs.count_claim()
        _log.info(
            "run_claimed",
            **_names(attempt.request),
            attempt=attempt.number,
            process=self._process,
            queue_seconds=round(attempt.queue_seconds, 4),
            began=attempt.began,
        )

    def started(self, execution: Execution) -> None:
        """An attempt begins. Call it in the log context of the run."""
        attempt = execution.attempt
        self._runs.know_graph(attempt.request.graph_id)
        self._attempts.count_attempt(attempt.began)
        if attempt.number == 1:
            self._attempts.observe_queue(attempt.request.graph_id, execution.queue_seconds)
        told = {
            "attempt": attempt.number,
            "process": self._process,
            "in_place": not attempt.claimed,
            "queue_seconds": round(execution.queue_seconds, 4),
        }
        if attempt.claimed:
            _log.info("run_started", **told)
        else:
            _log.debug("run_started", **told)

    def ended(self, execution: Execution, end: RunEnd) -> None:
        """The end of a run is committed. Call it in the log context of the run."""
        graph_id, progress = execution.request.graph_id, execution.progress
        seconds = monotonic() - execution.began_at
        self._runs.observe_run(graph_id, end.status, seconds)
        if end.status in ("error", "timeout"):
            self._runs.count_error(graph_id, end.cause or "platform")
        first_event = progress.first_event_seconds
        _log.info(
            "run_ended",
            status=end.status,
            graph_id=graph_id,
            seconds=round(seconds, 4),
            attempt=execution.attempt.number,
            process=self._process,
            queue_seconds=round(execution.queue_seconds, 4),
            first_event_seconds=None if first_event is None else round(first_event, 4),
            steps=progress.steps,
            **execution.usage.totals(),
            cause=end.cause,
            error=end.error["error"] if end.error else None,
            **_cancelled(execution),
        )


def _cancelled(execution: Execution) -> dict[str, Any]:
    asked = execution.cancelled
    return {} if asked is None else {"cancel_reason": asked.reason, "cancel_note": asked.note}


def _names(request: RunRequest) -> dict[str, Any]:
    """For lines outside of the log context of the run."""
    return {
        "run_id": str(request.run_id),
        "thread_id": request.thread_id,
        "graph_id": request.graph_id,
        "assistant_id": str(request.assistant_id),
        "request_id": request.request_id,
    }
