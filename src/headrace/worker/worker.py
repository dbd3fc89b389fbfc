"""The run worker of a process: capacity, the runs it has, what it claims, and their orderly end."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from uuid import UUID

import structlog

from headrace.errors import Draining, RequestError, ThreadBusy, Unavailable
from headrace.lifecycle import Supervision, Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.figures import CallerFigures
from headrace.observability.metrics import Metrics
from headrace.queue.claimed import ClaimedRun
from headrace.queue.ends import EndedRun
from headrace.queue.queue import Queue
from headrace.queue.rows import (
    Cancellation,
    QueuedRun,
    RunRequest,
    StartedRun,
    StopAction,
)
from headrace.setting_groups import WorkerSettings
from headrace.shares import Places
from headrace.worker.admission import Admission
from headrace.worker.channels import Channels
from headrace.worker.claims import Claims
from headrace.worker.deaf_runs import DeafRuns
from headrace.worker.execution import Execution, Stop
from headrace.worker.executor import Executor
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.quarantine import Quarantine
from headrace.worker.turns import caller_figures

#: A run for later wakes the queue at its time, if that is not further away; the next look into the
#: queue, a second later at the latest, finds the others.
_TIMED_SECONDS = 3600.0

_LEASE_LOST = "The server process lost its lease on this run."
_SHUT_DOWN = "The server shut down."

_log = structlog.stdlib.get_logger("headrace.worker")


class Worker:
    """Implements :class:`headrace.queue.rows.Dispatcher`.

    :param graph_ids: what this process can execute.
    :param places: for runs of this process, and who holds them.
    :param admission: whether a run may wait in the queue.
    :param on_begun: called with each run that is executed here from then on.
    """

    def __init__(
        self,
        executor: Executor,
        queue: Queue,
        heartbeat: Heartbeat,
        channels: Channels,
        notifier: Notifier,
        settings: WorkerSettings,
        metrics: Metrics,
        *,
        graph_ids: Sequence[str],
        places: Places,
        admission: Admission,
        supervision: Supervision | None = None,
        on_begun: Callable[[UUID], None] = lambda run_id: None,
    ) -> None:
        self._executor = executor
        self._channels = channels
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._metrics = metrics
        self._notifier = notifier
        self._on_begun = on_begun
        self._tasks = Tasks()
        self._rounds = Tasks(supervision)
        self._executions: dict[UUID, Execution] = {}
        #: They have ended, and keep their places.
        self._deaf = DeafRuns(settings, on_gone=self._give_back)
        #: Being started in place.
        self._starting: set[UUID] = set()
        #: Each start in place and each execution holds one for its caller.
        self._places = places
        self._admission = admission
        self._draining = False
        #: The grace is over: what begins now, of a claim that was under way, is released at once.
        self._releasing = False
        self._apart = Quarantine(settings, on_open=self.queue_changed)
        self._claims = Claims(
            queue,
            heartbeat,
            metrics,
            self._tasks,
            graph_ids=graph_ids,
            apart=self._apart,
            apart_seconds=settings.apart_seconds,
            places=places,
            free=lambda: self._free,
            busy=lambda: bool(self.running or self._starting),
            holds=lambda run_id: run_id in self._executions or run_id in self._starting,
            begin=self._begin_claimed,
            on_full=notifier.queue_changed,
        )

    @property
    def running(self) -> int:
        """Runs this process executes now."""
        return len(self._executions)

    @property
    def deaf(self) -> int:
        """Runs that have ended here while their graph, or a thread, goes on."""
        return len(self._deaf)

    @property
    def problem(self) -> str | None:
        """Why this process should be replaced, or None."""
        return self._deaf.problem

    def executions(self) -> Collection[Execution]:
        """The runs this process executes now."""
        return self._executions.values()

    def execution_of(self, run_id: UUID) -> Execution | None:
        """The run, if this process executes it, and knows the place of its events; until then it is
        followed as if it were elsewhere."""
        execution = self._executions.get(run_id)
        return execution if execution is not None and execution.channel.placed else None

    @property
    def _free(self) -> int:
        if self._apart.closed:
            return 0
        return max(0, self._places.free - self._claims.reserved)

    def _may_begin(self, caller: str) -> bool:
        """Whether there is a place for a run of this caller."""
        return self._free > 0 and self._places.allowance(caller) > 0

    def caller_figures(self) -> CallerFigures:
        """How callers share the places of this process."""
        return caller_figures(self._places)

    def begin_rounds(self) -> None:
        """Claim from now on."""
        if self._settings.enabled:
            self._rounds.keep(self._claims.take_for_ever, name="claims")

    async def start(self, request: RunRequest) -> Execution | QueuedRun:
        if self._draining:
            raise Draining
        process_id = self._heartbeat.process_id
        if (
            process_id is None
            or not self._settings.enabled
            or not request.in_place
            or request.after_seconds > 0
            or not self._may_begin(request.principal.caller)
        ):
            return await self._enqueue_if_admitted(request)
        starting = self._tasks.start(
            self._queue.start_if_thread_free(request, process_id), name=f"start-{request.run_id}"
        )
        self._start_begins(request)
        try:
            started = await asyncio.shield(starting)
            execution = self._begin(request, process_id, started)
        except asyncio.CancelledError:
            # The row may be committed any moment, and a run without an executor never ends.
            starting.add_done_callback(partial(self._begin_unclaimed, request, process_id))
            raise
        except BaseException as error:
            self._start_is_over(request)
            if isinstance(error, Unavailable) or not isinstance(error, RequestError):
                # A fault of our own too: it may have come after the commit.
                self._claims.doubt()
            if not isinstance(error, ThreadBusy):
                raise
        else:
            # Not before: a run that nobody holds is one that was committed unawares.
            self._start_is_over(request)
            return execution
        return await self._enqueue_if_admitted(request)

    def _start_begins(self, request: RunRequest) -> None:
        self._starting.add(request.run_id)
        self._places.hold(request.principal.caller)

    def _start_is_over(self, request: RunRequest) -> None:
        """Its execution, if there is one, has a place of its own."""
        self._starting.discard(request.run_id)
        self._places.release(request.principal.caller)

    async def _enqueue_if_admitted(self, request: RunRequest) -> QueuedRun:
        """:raises TooManyQueuedRuns: as many of its caller wait as may."""
        await self._admission.admit(request.principal.caller)
        return await self._enqueue(request)

    async def _enqueue(self, request: RunRequest) -> QueuedRun:
        queueing = self._tasks.start(self._queue.enqueue(request), name=f"queue-{request.run_id}")
        queued = await asyncio.shield(queueing)
        if queued.replaced is not None and queued.action is not None:
            self._tell_to_stop(queued.replaced, queued.action, "Another run replaces it.")
        for run_id in queued.ended:
            self._notifier.run_changed(run_id)
        if 0 < request.after_seconds <= _TIMED_SECONDS:
            asyncio.get_running_loop().call_later(
                request.after_seconds, self.queue_changed, request.principal.caller
            )
        elif not request.after_seconds:
            self.queue_changed(request.principal.caller)
        return queued

    def queue_changed(self, caller: str | None = None) -> None:
        """Something may be claimed, here or, if there is no room here, elsewhere.

        :param caller: whose run it is; None: nobody knows.
        """
        room = self._free > 0 if caller is None else self._may_begin(caller)
        if self._draining or not self._settings.enabled or not room:
            self._notifier.queue_changed()
        self._claims.wake()

    def _tell_to_stop(self, run_id: UUID, action: StopAction, reason: str) -> None:
        """Its row says so already; whoever executes it need not come upon that by itself."""
        execution = self._executions.get(run_id)
        if execution is None:
            self._notifier.run_changed(run_id)
        else:
            execution.stop_as_asked(action, reason)

    async def cancel(
        self, tenant: str, run_ids: Sequence[UUID], action: StopAction, reason: str
    ) -> list[Cancellation]:
        cancelled = await self._queue.cancel(tenant, run_ids, action, reason)
        for one in cancelled:
            if one.state == "asked":
                self._tell_to_stop(one.run_id, action, reason)
            elif one.state != "unknown":
                self._notifier.run_changed(one.run_id)
        # A thread may be free for the next one.
        self._claims.wake()
        return cancelled

    def wake(self) -> None:
        self._claims.wake()

    def refuse_new(self) -> None:
        """From now on no run is started or claimed here."""
        self._draining = True
        self._claims.end()

    async def finish(self, grace_seconds: float) -> None:
        """Let runs go on for the grace, then release the rest; none is left on return."""
        self.refuse_new()
        if self._tasks:
            _log.info("drain_started", runs=self.running, grace_seconds=grace_seconds)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._join()
        except TimeoutError:
            _log.warning("drain_released_runs", runs=self.running)
        self._releasing = True
        self._stop(self._executions.values(), Stop.RELEASED, _SHUT_DOWN)
        await self._join()

    def drop_all(self) -> None:
        """The lease is lost: stop everything, write nothing."""
        self._metrics.count_lease_loss()
        self._stop(self._executions.values(), Stop.LEASE_LOST, _LEASE_LOST)

    async def stop(self) -> None:
        """End what is left; a drain normally left nothing."""
        await self.finish(0)
        await self._rounds.stop()
        self._deaf.stop()

    def ended(self, execution: Execution, end: EndedRun) -> None:
        """Fits ``Executor(on_ended=...)``: what a committed end means for others."""
        if end.watched:
            self._notifier.run_changed(execution.run_id)
        if end.more:
            if self._draining or not self._settings.enabled:
                # Otherwise there is room here once this one has left.
                self._notifier.queue_changed()
            self._claims.wake()

    def _stop(self, executions: Iterable[Execution], stop: Stop, message: str) -> None:
        for execution in executions:
            execution.ask_to_stop(stop, message)

    async def _join(self) -> None:
        while self._tasks or self._starting or self._claims.reserved:
            await self._tasks.join()
            await asyncio.sleep(0)

    def _begin(
        self, request: RunRequest, process_id: UUID, started: StartedRun, *, claimed: bool = False
    ) -> Execution:
        """Start executing; synchronous, so that the caller can subscribe before the first event."""
        execution = Execution(request, started, process_id, self._channels, claimed=claimed)
        if process_id != self._heartbeat.process_id:
            execution.ask_to_stop(Stop.LEASE_LOST, _LEASE_LOST)
        elif self._releasing:
            execution.ask_to_stop(Stop.RELEASED, _SHUT_DOWN)
        self._executions[request.run_id] = execution
        # Whatever its share: it is executed here. :meth:`_execute` gives the place back.
        self._places.hold(request.principal.caller)
        self._on_begun(request.run_id)
        if started.watched:
            execution.channel.watch(True)
        if started.cancel_action is not None:
            execution.stop_as_asked(started.cancel_action)
        self._tasks.start(self._execute(execution), name=f"run-{request.run_id}")
        return execution

    def _begin_claimed(self, claimed: ClaimedRun, process_id: UUID) -> None:
        earlier = self._executions.get(claimed.request.run_id)
        if earlier is None:
            self._begin(claimed.request, process_id, claimed.started, claimed=True)
            return

        async def afterwards() -> None:
            # Another attempt that has lost the run, and is about to notice.
            earlier.ask_to_stop(Stop.LEASE_LOST, _LEASE_LOST)
            await earlier.until_finished()
            await asyncio.sleep(0)
            try:
                self._begin(claimed.request, process_id, claimed.started, claimed=True)
            except Exception:
                self._claims.doubt()
                raise

        self._tasks.start(afterwards(), name=f"after-{claimed.request.run_id}")

    def _begin_unclaimed(
        self, request: RunRequest, process_id: UUID, starting: asyncio.Task[StartedRun]
    ) -> None:
        if starting.cancelled():
            self._start_is_over(request)
            return
        error = starting.exception()
        if error is None:
            self._begin(request, process_id, starting.result())
        self._start_is_over(request)
        if isinstance(error, Unavailable):
            self._claims.doubt()
        elif isinstance(error, ThreadBusy) and request.multitask_strategy != "reject":
            self._tasks.start(self._enqueue(request), name=f"queue-{request.run_id}")

    async def _execute(self, execution: Execution) -> None:
        # Of a run from the queue nothing else would say which request has made it.
        structlog.contextvars.bind_contextvars(
            run_id=str(execution.run_id),
            thread_id=execution.thread_id,
            request_id=execution.request.request_id,
        )
        try:
            await self._executor.execute(execution)
        finally:
            if self._executions.get(execution.run_id) is execution:
                del self._executions[execution.run_id]
            self._apart.ended(execution.run_id)
            if self._draining:
                released = execution.stop is Stop.RELEASED
                self._metrics.count_drained("released" if released else "finished")
            if not self._deaf.keep(execution):
                self._give_back(execution)

    def _give_back(self, execution: Execution) -> None:
        """The place of a run of which nothing goes on here any more."""
        self._places.release(execution.request.principal.caller)
        if not self._draining and (self._free == 1 or self._claims.passed_over):
            # It was full, for this caller or for all, and a claim may have left something.
            self._claims.wake()
