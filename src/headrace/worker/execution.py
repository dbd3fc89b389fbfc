"""One run in this process: its events, the requests to stop it, and how it ended."""

import asyncio
from datetime import UTC, datetime
from enum import Enum
from time import monotonic
from uuid import UUID

from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.tally import UsageTally
from headrace.events.channel import Channel
from headrace.events.event import CANCELLED, RUN_DELETED, end_event
from headrace.events.reader import Moved
from headrace.lifecycle import Signal
from headrace.observability.run_metrics import AttemptMetrics
from headrace.queue.ends import AskedHere
from headrace.queue.rows import Attempt, CancelReason, RunOutcome, StopRequest
from headrace.thread_pool import Work
from headrace.tracing.tracer import NO_ATTEMPT_TRACE, AttemptTrace
from headrace.worker.boundary import BoundaryControl
from headrace.worker.channels import Channels
from headrace.worker.progress import Progress


class Stop(Enum):
    """Why a run is stopped before its graph has finished. A higher value wins over a lower one."""

    #: This process ends; another one may go on with the run.
    RELEASED = 1
    CANCEL = 2
    #: The run is going to be deleted.
    DELETED = 3
    #: The run is undone, and leaves nothing.
    ROLLBACK = 4
    #: This process may not write for the run any more.
    LEASE_LOST = 5


_STOPS = {"rollback": Stop.ROLLBACK, "delete": Stop.DELETED}


class Execution:
    """One attempt of a run, while this process executes it.

    :param slow_node_seconds: a node that takes longer is logged; 0: none is.
    """

    __slots__ = (
        "_attention",
        "_ended",
        "_moved",
        "_outcome",
        "asked_here",
        "attempt",
        "began_at",
        "cancelled",
        "channel",
        "control",
        "deadline_at",
        "given_up",
        "graph",
        "progress",
        "queue_seconds",
        "request",
        "result_json",
        "stop",
        "stop_message",
        "stopped_at_boundary",
        "token",
        "trace",
        "usage",
        "work",
        "writes",
    )

    def __init__(
        self,
        attempt: Attempt,
        channels: Channels,
        metrics: AttemptMetrics,
        *,
        slow_node_seconds: float = 0.0,
    ) -> None:
        self.attempt = attempt
        self.request = attempt.request
        #: Goes with each write of the run: without a valid token nothing is written.
        self.token = attempt.token
        #: The writes of the run; None before its graph has begun.
        self.writes: RunWrites | None = None
        #: The task that runs the graph; None before that has begun.
        self.graph: asyncio.Task[None] | None = None
        #: The trace of the attempt; records nothing before the executor begins it.
        self.trace: AttemptTrace = NO_ATTEMPT_TRACE
        #: The model calls of this attempt, and their tokens.
        self.usage = UsageTally(self.token, self.request.thread_id)
        #: The work of threads for the run.
        self.work = Work()
        #: Asks the graph to stop at the end of a superstep: this process drains.
        self.control = BoundaryControl()
        #: What the receiver of its webhook is told of its result; None without a webhook.
        self.result_json: bytes | None = None
        #: The graph has done so, or has not begun: no step will be repeated.
        self.stopped_at_boundary = False
        #: The graph was cancelled, and has not stopped in time.
        self.given_up = False
        self.began_at = monotonic()
        #: How long the run has waited for this attempt.
        self.queue_seconds = (
            attempt.queue_seconds
            if attempt.claimed
            else self.began_at - attempt.request.received_at
        )
        #: When the run must have ended, by ``time.monotonic``; infinite without a deadline.
        self.deadline_at = float("inf")
        if (seconds := self.request.deadline_seconds) is not None:
            age = attempt.age_seconds if attempt.claimed else self.queue_seconds
            self.deadline_at = self.began_at - age + seconds
        self.progress = Progress(
            attempt,
            metrics,
            free_since=self.began_at - self.queue_seconds,
            slow_seconds=slow_node_seconds,
        )
        self.stop: Stop | None = None
        self.stop_message = ""
        #: The first request to stop the run that this process knows; None if there was none.
        self.cancelled: StopRequest | None = None
        #: The first stop that was asked for in this process alone; the end of the run stores it.
        self.asked_here: AskedHere | None = None
        self.channel: Channel = channels.open(
            self.token,
            self.request.thread_id,
            resumable=bool(self.request.kwargs.get("resumable")),
            # Other processes may follow a run from the queue: keep its events from the first on.
            kept=attempt.claimed or self.request.keep_events,
            on_lost=lambda: self.ask_to_stop(Stop.LEASE_LOST, "The run was taken over."),
        )
        self._attention = Signal()
        self._moved = False
        self._ended = Signal()
        self._outcome: RunOutcome | None = None

    @property
    def stop_note(self) -> str | None:
        """What the client who cancelled the run has said about it."""
        return None if self.cancelled is None else self.cancelled.note

    @property
    def overdue(self) -> bool:
        """The deadline of the run has passed."""
        return monotonic() >= self.deadline_at

    @property
    def run_id(self) -> UUID:
        return self.request.run_id

    @property
    def thread_id(self) -> str:
        return self.request.thread_id

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """Return how the run ended, once its row says so; None if it still runs at the timeout.

        :raises Moved: the run goes on in another process.
        """
        if not await self._ended.wait(timeout_seconds):
            return None
        if self._moved:
            raise Moved
        return self._outcome

    def cancel(self, message: str, reason: CancelReason) -> None:
        """Ask the run to stop; it ends as ``interrupted``.

        :param message: a sentence, for the error of the run.
        """
        if self.asked_here is None:
            self.asked_here = AskedHere(reason, datetime.now(UTC))
        self.cancelled = self.cancelled or StopRequest("interrupt", reason)
        self.ask_to_stop(Stop.CANCEL, message)

    def stop_as_asked(self, asked: StopRequest, message: str = CANCELLED) -> None:
        """Stop as the run's row asks."""
        self.cancelled = self.cancelled or asked
        self.ask_to_stop(_STOPS.get(asked.action, Stop.CANCEL), message)

    def ask_to_stop(self, stop: Stop, message: str) -> None:
        """Ask the run to stop; the strongest reason counts, and among equal reasons the first."""
        if self.stop is None or stop.value > self.stop.value:
            self.stop = stop
            self.stop_message = message
        if stop is Stop.LEASE_LOST:
            self.channel.abandon()
        self._attention.set()

    async def wait_for(self, graph: asyncio.Task[None], timeout_seconds: float) -> None:
        """Return once the graph has ended, the run is asked to stop, or the timeout has passed."""
        graph.add_done_callback(lambda _: self._attention.set())
        await self._attention.wait(timeout_seconds)

    async def until_finished(self) -> None:
        await self._ended.wait()

    def finish(self, outcome: RunOutcome) -> None:
        """Tell all followers in this process how the run ended; its row says so already."""
        self._outcome = outcome
        self._ended.set()
        # The client that asked this run to stop may wait in another process.
        self.channel.awaited = self.stop is not None
        end = None
        try:
            # The executor has published an event about a deletion already.
            if outcome.error != RUN_DELETED:
                end = end_event(self.run_id, outcome.status, outcome.error)
        finally:
            self.channel.close(end)

    def hand_over(self) -> None:
        """Tell the followers that another process has the run now."""
        self._moved = True
        self._ended.set()
        self.channel.move()
