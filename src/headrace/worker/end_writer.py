"""Ends an execution: decides the run's final status, and repeats the commit until it succeeds."""

import asyncio
from dataclasses import replace

import psycopg
import structlog

from headrace.db.faults import caller_message
from headrace.error_text import MAX_BYTES, error_name
from headrace.errors import LeaseLost
from headrace.events.event import RUN_DELETED, stop_error
from headrace.observability.masking import mask_text, masked_message
from headrace.queue.ends import RELEASED, EndedRun, RunEnd, StopAsked
from headrace.queue.queue import Queue
from headrace.queue.rows import Cause, StopAction, StopRequest
from headrace.unavailable_errors import Unavailable
from headrace.webhooks.outbox import Outbox
from headrace.worker.error_causes import cause_of
from headrace.worker.execution import Execution, Stop

_log = structlog.stdlib.get_logger("headrace.worker")

_END_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


class EndWriter:
    """Commits ends, and returns what a committed end means for others.

    :param max_error_bytes: longer messages of exceptions are cut.
    """

    def __init__(self, queue: Queue, outbox: Outbox, *, max_error_bytes: int = MAX_BYTES) -> None:
        self._queue = queue
        self._outbox = outbox
        self._max_error_bytes = max_error_bytes

    async def write_surely(self, execution: Execution, end: RunEnd) -> EndedRun | None:
        """Commit the end. If that raises, commit instead that the run failed.

        So a run ends even when its end cannot be stored, or headrace itself has a fault.

        :returns: None when the run does not belong to this process any more.
        :raises StopAsked: somebody asked the run to stop before this end was committed.
        """
        delays = iter(_END_RETRY_SECONDS)
        cancelled = False
        while execution.stop is not Stop.LEASE_LOST:
            try:
                return await self.write(execution, end)
            except StopAsked:
                raise
            except asyncio.CancelledError as fault:
                if cancelled:
                    raise
                # User code has cancelled all tasks of the loop. The end of the loop cancels again.
                cancelled, end = True, self.failed(fault)
            except GeneratorExit:
                raise
            except BaseException as fault:
                delay = next(delays, _END_RETRY_SECONDS[-1])
                _log.error("run_end_failed", retry_in_seconds=delay, exc_info=fault)
                end = self.failed(fault)
                await asyncio.sleep(delay)
        _log.info("run_taken_over")
        return None

    def failed(self, error: BaseException, cause: Cause = "platform") -> RunEnd:
        """The end of a run that failed with ``error``."""
        return RunEnd("error", "error", error_json(error, self._max_error_bytes), cause=cause)

    async def write(self, execution: Execution, end: RunEnd) -> EndedRun | None:
        """Commit the end; a run that is to be rolled back is deleted instead.

        :returns: None when the run does not belong to this process any more.
        :raises StopAsked: somebody asked the run to stop a moment ago; ``execution`` now has the
            request.
        """
        writes = execution.writes
        if end is not RELEASED and execution.stop is not Stop.ROLLBACK:
            return await self._write_end(execution, end)
        if writes is not None:
            try:
                # Another process goes on with a released run from these writes. A rollback deletes
                # them with the checkpoints of the run.
                await writes.committed()
            except LeaseLost:
                _log.info("run_taken_over")
                return None
            except Exception as failure:
                if execution.stop is not Stop.ROLLBACK:
                    return await self._write_end(execution, end)
                _log.warning("run_writes_failed", exc_info=failure)
        if execution.stop is Stop.ROLLBACK:
            return await self._roll_back(execution)
        return await self._write_end(execution, end)

    async def _roll_back(self, execution: Execution) -> EndedRun | None:
        pauses = _Pauses()
        while execution.stop is not Stop.LEASE_LOST:
            try:
                asked = await self._queue.roll_back_if_owned(
                    execution.token, execution.thread_id, usage=execution.usage
                )
            except LeaseLost:
                break
            except NotImplementedError as error:
                _log.warning("rollback_refused", reason=str(error))
                return await self._interrupt_instead(execution)
            except (Unavailable, psycopg.Error) as fault:
                await pauses.after(fault)
            else:
                asked = asked or StopRequest("rollback")
                _log.info("run_rolled_back", reason=asked.reason, note=asked.note)
                # Runs behind it may be claimed now, and followers hear of its end.
                return EndedRun(_rolled_back(asked.note), more=True, watched=True)
        _log.info("run_taken_over")
        return None

    async def _request(self, execution: Execution, action: StopAction) -> StopRequest:
        """The request that came before an end, with reason and note if they can be read now."""
        try:
            asked = await self._queue.stop_request(execution.run_id)
        except Unavailable:
            asked = None
        return asked or StopRequest(action)

    async def _interrupt_instead(self, execution: Execution) -> EndedRun | None:
        """End a run that cannot be rolled back as ``interrupted``."""
        pauses = _Pauses()
        while execution.stop is not Stop.LEASE_LOST:
            try:
                await self._queue.interrupt_instead_of_rollback(execution.token)
                return await self._write_end(execution, _INTERRUPTED)
            except StopAsked:
                # A client has asked for the rollback again.
                continue
            except Unavailable as fault:
                await pauses.after(fault)
        _log.info("run_taken_over")
        return None

    async def _write_end(self, execution: Execution, end: RunEnd) -> EndedRun | None:
        """Commit the end together with the last writes of the run, or after them.

        A run whose writes failed ends as ``error``, even if its graph succeeded; but an
        ``interrupted`` end stays. The commit is repeated while the database is away: a thread must
        not stay busy when its run is over.

        :returns: None when the run does not belong to this process any more.
        :raises StopAsked: as :meth:`write`.
        """
        pauses = _Pauses()
        writes = execution.writes
        while execution.stop is not Stop.LEASE_LOST:
            if writes is not None and writes.failure is not None:
                if isinstance(writes.failure, LeaseLost):
                    break
                _log.error("run_writes_failed", exc_info=writes.failure)
                if end.status != "interrupted":
                    cause = cause_of(writes.failure, ours=writes.failure)
                    end = self.failed(writes.failure, cause)
                writes = None
            try:
                await self._stage(execution, end)
                ended = await self._queue.end_if_owned(
                    execution.token, execution.thread_id, end, run=writes, usage=execution.usage
                )
            except LeaseLost:
                break
            except StopAsked as asked:
                execution.stop_as_asked(await self._request(execution, asked.action))
                raise
            except Unavailable as fault:
                await pauses.after(fault)
            except Exception:
                if writes is None or writes.failure is None:
                    raise
            else:
                if execution.result_json is not None:
                    self._outbox.wake()
                return ended
        _log.info("run_taken_over")
        return None

    async def _stage(self, execution: Execution, end: RunEnd) -> None:
        """Note what the receiver of a webhook is told; the end of the run makes it due.

        :raises Unavailable: the database could not be reached.
        """
        if execution.result_json is None or end is RELEASED:
            return
        try:
            await self._outbox.stage(execution.token, execution.result_json)
        except psycopg.Error:
            # The receiver is told of the end without values.
            _log.exception("webhook_values_lost")


class _Pauses:
    """The pauses between the tries to write one end. Only the first one is logged."""

    def __init__(self) -> None:
        self._delays = iter(_END_RETRY_SECONDS)
        self._told = False

    async def after(self, fault: Exception) -> None:
        """Wait before the next try; the last one has raised ``fault``."""
        delay = next(self._delays, _END_RETRY_SECONDS[-1])
        if not self._told:
            self._told = True
            cause = fault.code if isinstance(fault, Unavailable) else type(fault).__name__
            _log.warning("run_end_delayed", retry_in_seconds=delay, cause=cause)
        await asyncio.sleep(delay)


_INTERRUPTED = RunEnd(
    "interrupted",
    "interrupted",
    {"error": "UserInterrupt", "message": "The run was to be rolled back; its checkpoints stand."},
)
_ROLLED_BACK = RunEnd(
    "interrupted", "idle", {"error": "UserRollback", "message": "The run was rolled back."}
)


def _rolled_back(note: str | None) -> RunEnd:
    if note is None or _ROLLED_BACK.error is None:
        return _ROLLED_BACK
    return replace(_ROLLED_BACK, error={**_ROLLED_BACK.error, "reason": note})


def error_json(error: BaseException, max_bytes: int = MAX_BYTES) -> dict[str, str]:
    """An exception as clients see it; its message has at most ``max_bytes``."""
    # An error message of a model provider may quote the API key, and clients read this message.
    told = caller_message(error)
    message = masked_message(error, max_bytes=max_bytes) if not told else mask_text(told)
    return {"error": error_name(error), "message": message}


def end_of_stopped(execution: Execution) -> RunEnd:
    """The end of a run that was asked to stop, or that ran out of time."""
    message = execution.stop_message
    match execution.stop:
        case Stop.CANCEL:
            return RunEnd(
                "interrupted",
                "interrupted",
                stop_error(message, execution.stop_note),
                asked=execution.asked_here,
            )
        case Stop.DELETED:
            return RunEnd("interrupted", "interrupted", RUN_DELETED)
        case Stop.RELEASED:
            return RELEASED
        case Stop.ROLLBACK:
            return _ROLLED_BACK
        case Stop.LEASE_LOST:
            return RunEnd("error", "error", {"error": "LeaseLost", "message": message})
        case None if execution.overdue:
            seconds = execution.request.deadline_seconds
            message = (
                f"The run has not ended by its deadline, {seconds:g} s after it was made, or"
                " after its delay (deadline_seconds)."
            )
            return RunEnd(
                "timeout",
                "error",
                {"error": "DeadlineExceeded", "message": message},
                cause="deadline",
            )
        case None:
            return RunEnd(
                "timeout",
                "error",
                {"error": "RunTimeout", "message": "The run took longer than run_timeout_seconds."},
                cause="timeout",
            )
