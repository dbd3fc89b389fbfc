"""Puts runs into the queue, and asks runs to stop: what any process may do for a run, whichever
process executes it.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.lifecycle import Tasks
from headrace.notices.notifier import Notifier
from headrace.queue.queue import Queue
from headrace.queue.rows import (
    Cancellation,
    CancelReason,
    QueuedRun,
    RunRequest,
    StopAction,
    StopRequest,
)
from headrace.unavailable_errors import Draining
from headrace.worker.admission import Admission
from headrace.worker.handover import Handover
from headrace.worker.roster import Roster
from headrace.worker.run_log import RunLog

#: A run that is delayed for up to this long gets a timer. A round of claims finds runs with a
#: longer delay, at most a second late.
_TIMED_SECONDS = 3600.0


class Queueing:
    """One per process.

    :param admission: decides whether one more run may wait in the queue.
    :param tasks: of the worker. It waits for each of them: it may commit at any moment.
    """

    def __init__(
        self,
        queue: Queue,
        notifier: Notifier,
        roster: Roster,
        handover: Handover,
        admission: Admission,
        run_log: RunLog,
        tasks: Tasks,
    ) -> None:
        self._queue = queue
        self._notifier = notifier
        self._roster = roster
        self._handover = handover
        self._admission = admission
        self._run_log = run_log
        self._tasks = tasks
        self._refuses_all = False

    def refuse_all(self) -> None:
        """From now on queue no run for others: its client could not follow it."""
        self._refuses_all = True

    async def enqueue_for_others(self, request: RunRequest) -> QueuedRun:
        """Queue a run that this draining process may not start.

        :raises Draining: no other process would execute the run, or nobody could follow it.
        :raises TooManyQueuedRuns: as :meth:`enqueue_if_admitted`.
        """
        if self._refuses_all or not self._handover.is_served_elsewhere(request.graph_id):
            raise Draining
        return await self.enqueue_if_admitted(request, "draining")

    async def enqueue_if_admitted(self, request: RunRequest, reason: str) -> QueuedRun:
        """Queue a run, and tell who may claim it.

        :raises TooManyQueuedRuns: too many runs of its caller wait already.
        """
        await self._admission.admit(request.principal.caller)
        return await self.enqueue(request, reason)

    async def enqueue(self, request: RunRequest, reason: str) -> QueuedRun:
        """As :meth:`enqueue_if_admitted`, however many runs wait. On return that is committed."""
        queueing = self._tasks.start(self._queue.enqueue(request), name=f"queue-{request.run_id}")
        queued = await asyncio.shield(queueing)
        self._run_log.queued(request, queued, reason)
        if queued.replaced is not None and queued.action is not None:
            asked = StopRequest(queued.action, "next_run")
            self._tell_to_stop(queued.replaced, asked, "Another run replaces it.")
        for run_id in queued.ended:
            self._notifier.run_changed(run_id)
        if 0 < request.after_seconds <= _TIMED_SECONDS:
            asyncio.get_running_loop().call_later(
                request.after_seconds, self._announce, request.principal.caller
            )
        elif not request.after_seconds:
            self._announce(request.principal.caller)
        return queued

    def _announce(self, caller: str) -> None:
        """A run of this caller may be claimed."""
        self._roster.announce(room=self._roster.may_begin(caller))

    def _tell_to_stop(self, run_id: UUID, asked: StopRequest, message: str) -> None:
        """Stop the run here, or tell the process that executes it. Its row says so already."""
        execution = self._roster.executions.get(run_id)
        if execution is None:
            self._notifier.run_changed(run_id)
        else:
            execution.stop_as_asked(asked, message)

    def cancel_here(self, run_id: UUID, message: str, reason: CancelReason) -> None:
        """Ask a run to stop if this process executes it still."""
        execution = self._roster.executions.get(run_id)
        if execution is not None:
            self._run_log.cancelled(reason)
            execution.cancel(message, reason)

    async def cancel(
        self,
        principal: Principal,
        run_ids: Sequence[UUID],
        action: StopAction,
        message: str,
        reason: CancelReason,
        note: str | None = None,
    ) -> list[Cancellation]:
        """Ask runs that have not ended to stop; return what the request has done to each.

        :param message: a sentence, for the errors of the runs.
        :param note: why, in the words of the client who asks; for rows, log and streams.
        """
        cancelled = await self._queue.cancel(principal, run_ids, action, message, reason, note)
        asked = StopRequest(action, reason, note)
        for one in cancelled:
            if one.state == "unknown":
                continue
            self._run_log.cancelled(reason)
            self._run_log.asked_to_stop(one, asked)
            if one.state == "removed":
                self._run_log.removed(one.run_id, one.thread_id, asked)
            if one.state == "asked":
                self._tell_to_stop(one.run_id, asked, message)
            else:
                self._notifier.run_changed(one.run_id)
        # A thread may be free for its next run.
        self._roster.wake()
        return cancelled
