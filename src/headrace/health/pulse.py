"""The pulse of a process: each second it measures the process and publishes its status slot.

It runs on the event loop on purpose: its own delay is the loop lag, and a blocked loop publishes
nothing.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from time import monotonic

from headrace.checkpoints.answer_memory import AnswerMemory
from headrace.checkpoints.writer import Writer
from headrace.db.measurer import DatabaseMeasurer
from headrace.db.pool import SharedPool
from headrace.edge.body_memory import BodyMemory
from headrace.edge.gates import RequestGates
from headrace.events.reader_buffers import BufferBudget
from headrace.following.run_watcher import Watcher
from headrace.following.thread_watcher import ThreadWatcher
from headrace.lifecycle import Supervision, Tasks
from headrace.notices.notifier import Notifier
from headrace.observability.figures import Figures
from headrace.observability.metrics import Metrics
from headrace.observability.process import (
    LargeGarbage,
    collections_by_generation,
    open_files,
    resident_bytes,
)
from headrace.observability.slots import StatusBoard
from headrace.thread_pool import ThreadPool
from headrace.worker.queue_depth import QueueDepth
from headrace.worker.worker import Worker

_BEAT_SECONDS = 0.1
_BEATS_PER_SLOT = 10
#: Loop lag is the longest of this many beats, so that a scrape every 15 s misses no stall.
_LAG_BEATS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseSources:
    """The objects whose figures the pulse publishes. Figures of absent objects have defaults."""

    pool: SharedPool | None = None
    writer: Writer | None = None
    answer_memory: AnswerMemory | None = None
    body_memory: BodyMemory | None = None
    places: RequestGates | None = None
    threads: ThreadPool | None = None
    worker: Worker | None = None
    queue_depth: QueueDepth | None = None
    measurer: DatabaseMeasurer | None = None
    watcher: Watcher | None = None
    thread_watcher: ThreadWatcher | None = None
    reader_budget: BufferBudget | None = None
    notifier: Notifier | None = None

    def figures(self) -> dict[str, object]:
        """The fields of :class:`Figures` that these objects know."""
        found: dict[str, object] = {}
        if self.pool is not None:
            found["pool"] = self.pool.figures()
            found["login_problem"] = self.pool.login.problem
        if self.writer is not None:
            found["writer"] = self.writer.figures()
        if self.answer_memory is not None:
            found["answers"] = self.answer_memory.figures()
        if self.body_memory is not None:
            found["bodies"] = self.body_memory.figures()
        if self.places is not None:
            found["gates"] = self.places.figures()
        if self.threads is not None:
            found["threads"] = self.threads.figures()
        if self.worker is not None:
            found["runs_running"] = self.worker.running
            found["oldest_running_seconds"] = self.worker.oldest_running_seconds
            found["callers"] = self.worker.caller_figures()
            found["deaf_runs"] = self.worker.deaf
            found["lease_left_seconds"] = self.worker.lease_left_seconds
        if self.queue_depth is not None:
            found["queue"] = self.queue_depth.figures
        if self.measurer is not None:
            found["database"] = self.measurer.figures
        if self.watcher is not None:
            found["runs_watched"] = self.watcher.watching
        if self.thread_watcher is not None:
            found["threads_watched"] = self.thread_watcher.watching
        if self.reader_budget is not None:
            found["events_waiting_bytes"] = self.reader_budget.bytes
        if self.notifier is not None:
            found["notices_connected"] = self.notifier.connected
        return found


class Pulse:
    """Publishes ``board``'s slot from ``start`` to ``stop``; ``stop`` removes it."""

    def __init__(
        self,
        board: StatusBoard,
        metrics: Metrics,
        measured: PulseSources,
        *,
        supervision: Supervision | None = None,
    ) -> None:
        self._board = board
        self._metrics = metrics
        self._measured = measured
        self._lags: deque[float] = deque(maxlen=_LAG_BEATS)
        self._tasks = Tasks(supervision)

    async def start(self) -> None:
        self._board.publish(self.measure())
        self._tasks.keep(self._beat, name="pulse")

    async def stop(self) -> None:
        await self._tasks.stop()
        self._count()
        self._board.remove()

    def measure(self) -> Figures:
        """The figures of this process now."""
        return Figures.model_validate(
            {
                **self._measured.figures(),
                "connections": self._metrics.http.connections_open,
                "requests_in_flight": self._metrics.http.requests_in_flight,
                "streams_open": self._metrics.http.streams_open,
                "loop_lag_seconds": round(max(self._lags, default=0.0), 4),
                "rss_bytes": resident_bytes(),
                "open_fds": open_files(),
                "gc_collections": collections_by_generation(),
                "checkpoints": self._metrics.checkpoints.latency.percentiles(),
                "commits": self._metrics.checkpoints.commit_latency.percentiles(),
                "flushes": self._metrics.checkpoints.flush_latency.percentiles(),
                "store": self._metrics.checkpoints.store_latency.percentiles(),
            }
        )

    async def _beat(self) -> None:
        beats, garbage = 0, LargeGarbage()
        while True:
            due = monotonic() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self._lags.append(max(0.0, monotonic() - due))
            garbage.look()
            beats += 1
            if beats % _BEATS_PER_SLOT == 0:
                self._count()
                self._board.publish(self.measure())

    def _count(self) -> None:
        """Add to the counters what objects on the hot path count in plain memory."""
        if (pool := self._measured.pool) is not None:
            sent = pool.traffic
            self._metrics.database.count_traffic(sent.statements, sent.transactions)
        self._metrics.process.count_collections()
