"""The run worker of a process: starts, queues and cancels runs, and ends them in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from uuid import UUID

import structlog

from headrace.auth.principal import Principal
from headrace.errors import RequestError, ThreadBusy
from headrace.lifecycle import Supervision, Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.figures import CallerFigures
from headrace.observability.metrics import Metrics
from headrace.queue.queue import Queue
from headrace.queue.rows import (
    Attempt,
    Cancellation,
    CancelReason,
    QueuedRun,
    RunRequest,
    StopAction,
)
from headrace.setting_groups import WorkerSettings
from headrace.unavailable_errors import Unavailable
from headrace.worker.admission import Admission
from headrace.worker.channels import Channels
from headrace.worker.claim_rounds import ClaimRounds
from headrace.worker.claims import Claims
from headrace.worker.deaf_runs import DeafRuns
from headrace.worker.execution import Execution
from headrace.worker.executions import Executions
from headrace.worker.executor import Executor
from headrace.worker.fairness import caller_figures
from headrace.worker.handover import Handover
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.quarantine import Quarantine
from headrace.worker.queueing import Queueing
from headrace.worker.roster import Roster
from headrace.worker.run_log import RunLog
from headrace.worker.stop_requests import StopRequests

#: Reasons to queue a run that end when a place becomes free.
_NO_PLACE = ("full", "share")
#: Strategies whose effect depends on which run comes first to the thread.
_REPLACING = ("interrupt", "rollback")

_log = structlog.stdlib.get_logger("headrace.worker")


class Worker:
    """One per process.

    :param roster: the runs that this process has, and its places for more.
    :param admission: decides whether one more run may wait in the queue.
    :param graph_ids: the graphs that this process can execute.
    """

    def __init__(
        self,
        executor: Executor,
        queue: Queue,
        heartbeat: Heartbeat,
        channels: Channels,
        notifier: Notifier,
        roster: Roster,
        stop_requests: StopRequests,
        admission: Admission,
        settings: WorkerSettings,
        metrics: Metrics,
        run_log: RunLog,
        *,
        graph_ids: Sequence[str],
        supervision: Supervision | None = None,
    ) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._notifier = notifier
        self._roster = roster
        self._metrics = metrics
        #: Starts, claims and executions. Wait for each of them: it may commit at any moment.
        self._tasks = Tasks()
        self._loops = Tasks(supervision)
        self._deaf_runs = DeafRuns(settings, roster)
        self._handover = Handover(queue, heartbeat, roster, graph_ids=graph_ids)
        self._queueing = Queueing(
            queue, notifier, roster, self._handover, admission, run_log, self._tasks
        )
        quarantine = Quarantine(settings, roster)
        self._executions = Executions(
            executor,
            heartbeat,
            channels,
            notifier,
            roster,
            stop_requests,
            quarantine,
            self._deaf_runs,
            self._handover,
            metrics,
            run_log,
            self._tasks,
            slow_node_seconds=settings.slow_node_seconds,
        )
        self._claims = Claims(
            queue,
            heartbeat,
            roster,
            quarantine,
            notifier,
            metrics,
            run_log,
            graph_ids=graph_ids,
            apart_seconds=settings.apart_seconds,
        )
        self._rounds = ClaimRounds(self._claims, self._executions, roster, quarantine, self._tasks)

    @property
    def running(self) -> int:
        """Runs this process executes now."""
        return len(self._roster.executions)

    @property
    def oldest_running_seconds(self) -> float:
        """For how long the oldest run is executed here; 0 if there is none."""
        # A dict keeps the order of insertion, so the first run is the oldest one.
        oldest = next(iter(self._roster.executions.values()), None)
        return 0.0 if oldest is None else round(monotonic() - oldest.began_at, 1)

    @property
    def deaf(self) -> int:
        """Runs that have ended here while their graph, or a thread, goes on."""
        return len(self._deaf_runs)

    @property
    def problem(self) -> str | None:
        """Why this process should be replaced, or None."""
        return self._deaf_runs.problem

    def execution_of(self, run_id: UUID) -> Execution | None:
        """The run, if this process executes it and knows the id of its next event.

        Until the process knows that id, followers read the run as if another process executed it.
        """
        execution = self._roster.executions.get(run_id)
        return execution if execution is not None and execution.channel.ids_known else None

    def caller_figures(self) -> CallerFigures:
        """How callers share the places of this process."""
        return caller_figures(self._roster.places)

    def waits_for_place(self, caller: str) -> bool:
        """Whether a run of this caller would now wait in memory for a place."""
        return not self._roster.may_begin(caller) and self._roster.place_is_near(caller)

    def start(self) -> None:
        """Claim runs, and watch over the lease, from now on."""
        self._loops.keep(self._drop_runs_when_lease_is_lost, name="lost-lease")
        if self._roster.enabled:
            self._loops.keep(self._rounds.until_drained, name="claims")

    @property
    def lease_left_seconds(self) -> float | None:
        """See :attr:`Heartbeat.lease_left_seconds`."""
        return self._heartbeat.lease_left_seconds

    async def submit(self, request: RunRequest) -> Execution | QueuedRun:
        """Start the run here, or put it into the queue. On return that is committed.

        :raises ThreadBusy: another run has the thread, and the strategy is ``reject``.
        :raises ThreadNotFound: the caller may see no such thread.
        :raises AssistantChanged: the assistant is not the one that the request was made from.
        :raises RunForgotten: an earlier try has created the run, and it is deleted.
        :raises TooManyQueuedRuns: too many runs of its caller wait already.
        :raises SlotTaken: its cron has made the run of the slot already, is locked, or has changed.
        :raises Unavailable: this process cannot start or queue the run, or does not know whether it
            did. If the run was committed, it is executed.
        """
        if self._roster.draining:
            return await self._queueing.enqueue_for_others(request)
        reason = self._why_queued(request)
        if reason is None:
            self._roster.add_start(request)
        elif reason not in _NO_PLACE or not await self._wait_to_start(request, reason):
            return await self._queueing.enqueue_if_admitted(request, reason)
        process_id = self._heartbeat.process_id
        if process_id is None:
            self._roster.remove_start(request)
            return await self._queueing.enqueue_if_admitted(request, "not_here")
        starting = self._tasks.start(
            self._queue.start_run_if_free(request, process_id), name=f"start-{request.run_id}"
        )
        try:
            execution = self._executions.begin(await asyncio.shield(starting))
        except asyncio.CancelledError:
            # The client has gone. The row may be committed at any moment, and a run without an
            # execution never ends.
            starting.add_done_callback(partial(self._begin_without_client, request))
            raise
        except BaseException as error:
            self._roster.remove_start(request)
            if isinstance(error, Unavailable) or not isinstance(error, RequestError):
                # A fault of our own may also have come after the commit.
                self._claims.doubt()
            if not isinstance(error, ThreadBusy):
                raise
        else:
            # Not earlier: a run that is not in the roster would be released as an unknown one.
            self._roster.remove_start(request)
            return execution
        return await self._queueing.enqueue_if_admitted(request, "busy")

    def _why_queued(self, request: RunRequest) -> str | None:
        """Why this process may not start the run in place; None: it may."""
        if request.slot is not None:
            return "cron"
        if request.after_seconds > 0:
            return "delayed"
        if not self._roster.enabled or not request.in_place or self._heartbeat.process_id is None:
            return "not_here"
        if self._roster.may_begin(request.principal.caller):
            return None
        return "share" if self._roster.free else "full"

    async def _wait_to_start(self, request: RunRequest, reason: str) -> bool:
        """Wait for a place if one is likely to become free soon; return whether it is held now.

        If the client leaves meanwhile, the run is queued.
        """
        # Runs that replace others are queued in the order in which they come. Nobody waits for a
        # place on behalf of a background run: its client waits for the answer alone.
        if request.multitask_strategy in _REPLACING or request.keep_events:
            return False
        if not self._roster.place_is_near(request.principal.caller):
            return False
        began, outcome = monotonic(), "client_left"
        try:
            placed = await self._roster.wait_to_start(request)
            outcome = "started" if placed else "queued"
        except asyncio.CancelledError:
            self._tasks.start(
                self._enqueue_without_client(request, reason), name=f"queue-{request.run_id}"
            )
            raise
        finally:
            self._metrics.attempts.observe_place_wait(outcome, monotonic() - began)
        return placed

    async def _enqueue_without_client(self, request: RunRequest, reason: str) -> None:
        # Nobody is left who could be told why the run is refused.
        with suppress(RequestError):
            await self._queueing.enqueue(request, reason)

    def cancel_here(self, run_id: UUID, message: str, reason: CancelReason) -> None:
        """Ask a run to stop if this process executes it still."""
        self._queueing.cancel_here(run_id, message, reason)

    async def cancel(
        self,
        principal: Principal,
        run_ids: Sequence[UUID],
        action: StopAction,
        message: str,
        reason: CancelReason,
        note: str | None = None,
    ) -> list[Cancellation]:
        """See :meth:`Queueing.cancel`."""
        return await self._queueing.cancel(principal, run_ids, action, message, reason, note)

    @property
    def executes(self) -> bool:
        """Whether this process executes runs at all."""
        return self._roster.enabled

    @property
    def takes_runs(self) -> bool:
        """Whether this process executes runs, and takes new ones still."""
        return self._roster.enabled and not self._roster.draining

    @property
    def has_successor(self) -> bool:
        """Whether another process executes all graphs of this one, at the last look."""
        return self._handover.has_successor

    def refuse_new(self) -> None:
        """From now on no run is started or claimed here; runs are queued for others."""
        self._roster.drain()

    def refuse_all(self) -> None:
        """From now on no run is queued here either: its client could not follow it."""
        self._queueing.refuse_all()

    async def retire(self) -> None:
        """Tell the other processes not to count on this one, and look which can go on."""
        await self._handover.retire()

    async def finish(self, grace_seconds: float) -> None:
        """Release runs at the ends of their steps. On return no run is left.

        A run that ends before is not released. A step that outlives the grace is cut.
        """
        self.refuse_new()
        if self._tasks:
            _log.info("drain_started", runs=self.running, grace_seconds=grace_seconds)
        asking = Tasks()
        try:
            async with asyncio.timeout(grace_seconds):
                asking.start(self._handover.ask_runs(grace_seconds), name="handover")
                await self._join()
        except TimeoutError:
            _log.warning("drain_cut_steps", runs=self.running)
        finally:
            await asking.stop()
        self._executions.release_all()
        await self._join()

    async def stop(self) -> None:
        """End the runs that are left; after a drain there are none."""
        await self.finish(0)
        await self._loops.stop()
        self._deaf_runs.stop()

    def drop_all(self) -> None:
        """The lease is lost: stop all runs that began under it, and write nothing for them."""
        self._metrics.runs.count_lease_loss()
        self._executions.drop_all()

    async def _join(self) -> None:
        while self._tasks or self._roster.starting:
            await self._tasks.join()
            await asyncio.sleep(0)

    async def _drop_runs_when_lease_is_lost(self) -> None:
        while True:
            await self._heartbeat.until_lost()
            self.drop_all()

    def _begin_without_client(self, request: RunRequest, starting: asyncio.Task[Attempt]) -> None:
        """Execute or queue a run whose client left while the run was being started."""
        if starting.cancelled():
            self._roster.remove_start(request)
            return
        error = starting.exception()
        if error is None:
            self._executions.begin(starting.result())
        self._roster.remove_start(request)
        if isinstance(error, Unavailable):
            self._claims.doubt()
        elif isinstance(error, ThreadBusy) and request.multitask_strategy != "reject":
            self._tasks.start(
                self._queueing.enqueue(request, "busy"), name=f"queue-{request.run_id}"
            )
