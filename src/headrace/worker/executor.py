"""Executes one run: drives its graph, decides how it ends, and commits that end."""

import asyncio
from contextlib import suppress
from time import monotonic

import structlog

from headrace.checkpoints.write_size import least_bytes
from headrace.containment import contain
from headrace.events.event import RUN_DELETED
from headrace.lifecycle import Tasks
from headrace.observability.process import collect_soon
from headrace.queue.ends import RELEASED, EndedRun, RunEnd, StopAsked
from headrace.queue.queue import Queue
from headrace.queue.rows import RunOutcome
from headrace.setting_groups import WorkerSettings
from headrace.tracing.tracer import AttemptTrace, Tracer
from headrace.user_exit import UserExit
from headrace.webhooks.outbox import Outbox
from headrace.worker.end_writer import EndWriter, end_of_stopped
from headrace.worker.error_causes import cause_of
from headrace.worker.execution import Execution, Stop
from headrace.worker.graph_runner import GraphRunner
from headrace.worker.run_log import RunLog
from headrace.worker.run_result import RunResult
from headrace.worker.temporary_threads import TemporaryThreads

_log = structlog.stdlib.get_logger("headrace.worker")

#: A cancelled graph has this long to clean up; then the run ends without it.
_STOP_SECONDS = 5.0

#: LangGraph leaves values of a run in reference cycles. Python's collector counts objects, not
#: bytes. So after a run with values of this size, headrace asks for a collection.
_LARGE_BYTES = 16 * 1024 * 1024

#: What a trace says of an attempt whose run another process has now.
_LOST = RunEnd("lost", "busy")


class Executor:
    """Keeps nothing between runs: what belongs to a run is in its :class:`Execution`.

    :param release_seconds: how long a graph may take to clean up when the process ends.
    """

    def __init__(
        self,
        runner: GraphRunner,
        queue: Queue,
        settings: WorkerSettings,
        run_log: RunLog,
        temporary: TemporaryThreads,
        tracer: Tracer,
        outbox: Outbox,
        *,
        release_seconds: float = _STOP_SECONDS / 2,
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._run_log = run_log
        self._temporary = temporary
        self._tracer = tracer
        self._outbox = outbox
        self._end_writer = EndWriter(queue, outbox, max_error_bytes=settings.max_error_bytes)
        self._graphs = Tasks()
        self._release_seconds = release_seconds

    async def execute(self, execution: Execution) -> RunResult:
        """Run the graph to its end, and commit that end; never raises for what the graph does.

        Whatever fails here, the run's row gets a final status and its thread becomes free. A run
        that this process forgets would be ``running`` for ever, because the process renews its
        lease. Tell other processes of the end, then call :meth:`finish`.
        """
        contain()
        result = RunResult()
        execution.trace = self._begin_trace(execution)
        ended = await self._end_of_drive(execution, result)
        self._note_result(execution, result)
        result.ended = await self._end(execution, ended)
        end = result.ended.end if result.ended is not None else _LOST
        execution.trace.end(end.status, error=end.error, interrupted=result.interrupted)
        return result

    async def finish(self, execution: Execution, result: RunResult) -> None:
        """Delete a temporary thread, then tell those who follow the run in this process."""
        if result.ended is None:
            execution.hand_over()
            return
        end, graph_id = result.ended.end, execution.request.graph_id
        if end is RELEASED:
            execution.hand_over()
            _log.info("run_released", graph_id=graph_id, at_boundary=execution.stopped_at_boundary)
            return
        try:
            await self._delete_temporary(execution)
        finally:
            # A failed run has no values for its followers.
            failed = end.error is not None and end.status != "interrupted"
            values = None if failed else result.answer()
            execution.finish(RunOutcome(status=end.status, values=values, error=end.error))
        if least_bytes(result.values) > _LARGE_BYTES:
            collect_soon()
        self._run_log.ended(execution, end)

    def _begin_trace(self, execution: Execution) -> AttemptTrace:
        attempt, request = execution.attempt, execution.request
        return self._tracer.attempt(
            request.trace,
            request.run_id,
            attempt.number,
            thread_id=request.thread_id,
            graph_id=request.graph_id,
            waits_since=attempt.waits_since,
        )

    async def _end_of_drive(self, execution: Execution, result: RunResult) -> RunEnd:
        try:
            return result.final_state.completed(await self._drive(execution, result))
        except GeneratorExit:
            raise
        except BaseException as fault:
            # User code has cancelled all tasks of the loop, or this is a fault of our own.
            _log.exception("run_not_driven")
            return self._end_writer.failed(fault)

    def _note_result(self, execution: Execution, result: RunResult) -> None:
        """Note what the receiver of the run's webhook is told, if it has one."""
        if not execution.request.kwargs.get("webhook"):
            return
        try:
            execution.result_json = result.told(max_bytes=self._outbox.max_payload_bytes)
        except BaseException:
            # The values may be of a class of the user.
            _log.exception("values_not_read")

    async def _settle_events(self, execution: Execution, end: RunEnd) -> None:
        """Store the last events before the end: after it, the fence refuses them."""
        try:
            if end.error == RUN_DELETED:
                # Followers in other processes will find no row any more, only this event.
                execution.channel.publish("error", RUN_DELETED)
            await execution.channel.settle()
        except GeneratorExit:
            raise
        except BaseException:
            _log.exception("events_not_settled")

    async def _delete_temporary(self, execution: Execution) -> None:
        if not execution.request.temporary_thread:
            return
        if execution.channel.kept or execution.request.key is not None:
            # Followers in other processes, and clients that repeat the request, may still read the
            # values.
            self._temporary.delete_later(execution.thread_id)
            return
        try:
            await self._temporary.delete(execution.thread_id)
        except Exception:
            # A later round of ``delete_abandoned`` finds the thread.
            _log.exception("temporary_thread_left")

    async def _end(self, execution: Execution, end: RunEnd) -> EndedRun | None:
        """Store the last events and commit the end; None when another process has the run now."""
        while True:
            await self._settle_events(execution, end)
            try:
                return await self._end_writer.write_surely(execution, end)
            except StopAsked:
                end = end_of_stopped(execution)

    async def _drive(self, execution: Execution, result: RunResult) -> RunEnd:
        """Run the graph until it has ended, is stopped, or is out of time."""
        if execution.stop is not None:
            # The run was asked to stop before its graph began.
            execution.stopped_at_boundary = True
            return end_of_stopped(execution)
        if execution.overdue:
            # It has waited in the queue until its deadline.
            return self._timed_out(execution)
        graph = self._graphs.start(
            self._runner.run(execution, result), name=f"graph-{execution.run_id}"
        )
        execution.graph = graph
        left = min(self._settings.run_timeout_seconds, execution.deadline_at - monotonic())
        await execution.wait_for(graph, max(0.0, left))
        if graph.done():
            return self._end_of(graph, execution, result)
        graph.cancel()
        released = execution.stop is Stop.RELEASED
        seconds = self._release_seconds if released else _STOP_SECONDS
        await asyncio.wait({graph}, timeout=seconds)
        execution.given_up = not graph.done()
        if graph.done() and not graph.cancelled() and graph.exception() is None:
            # The graph finished at this very moment: its result stands.
            return self._end_of(graph, execution, result)
        if execution.stop is None:
            return self._timed_out(execution)
        return end_of_stopped(execution)

    def _timed_out(self, execution: Execution) -> RunEnd:
        seconds, limit = self._settings.run_timeout_seconds, "run_timeout_seconds"
        if execution.overdue:
            seconds, limit = execution.request.deadline_seconds or 0.0, "deadline_seconds"
        _log.warning("run_timed_out", seconds=seconds, limit=limit)
        return end_of_stopped(execution)

    def _end_of(self, graph: asyncio.Task[None], execution: Execution, result: RunResult) -> RunEnd:
        if execution.stopped_at_boundary:
            # A stronger stop may have been asked for meanwhile.
            execution.ask_to_stop(Stop.RELEASED, "")
            return end_of_stopped(execution)
        if graph.cancelled():
            error: BaseException | None = asyncio.CancelledError("the graph cancelled itself")
        else:
            error = graph.exception()
        if error is None:
            return result.success()
        failed_write = execution.writes.failure if execution.writes is not None else None
        if error is not failed_write:
            # Otherwise the end writer tells of it.
            with suppress(BaseException):
                # A log handler of the user may fail over this exception in any way.
                original = error.original if isinstance(error, UserExit) else error
                _log.warning("run_failed", exc_info=original)
        cause = cause_of(error, ours=failed_write, loaded=execution.progress.loaded)
        return self._end_writer.failed(error, cause)
