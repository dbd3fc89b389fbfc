"""The pulse of a process: each second it measures itself and publishes its status slot.

It runs on the event loop on purpose: its own delay is the loop lag, and a loop that no longer runs
anything no longer publishes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Protocol

from headrace.lifecycle import Supervision, Tasks
from headrace.observability.metrics import Metrics
from headrace.observability.process import (
    LargeGarbage,
    collections_by_generation,
    open_files,
    resident_bytes,
)
from headrace.observability.slots import (
    AnswersStatus,
    BodiesStatus,
    CallersStatus,
    Figures,
    GateStatus,
    PoolStatus,
    QueueStatus,
    StatusBoard,
    ThreadsStatus,
    WriterStatus,
)

_BEAT_SECONDS = 0.1
_BEATS_PER_SLOT = 10
#: Loop lag is the worst of this many beats, so that a scrape every 15 s misses no stall.
_LAG_BEATS = 150


class PoolFigures(Protocol):
    """What the pulse reads from a pool."""

    @property
    def size(self) -> int: ...
    @property
    def available(self) -> int: ...
    @property
    def in_use(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def max_size(self) -> int: ...
    @property
    def leaked(self) -> int: ...


class WriterFigures(Protocol):
    """What the pulse reads from a group-commit writer."""

    @property
    def operations(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class MemoryFigures(Protocol):
    """What the pulse reads of the memory for answers, and of that for bodies."""

    @property
    def bytes(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class GateFigures(Protocol):
    """What the pulse reads of places that requests hold."""

    @property
    def held(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class CallerFigures(Protocol):
    """What the pulse reads of how callers share places."""

    @property
    def holding(self) -> int: ...
    @property
    def at_limit(self) -> int: ...
    @property
    def most_places(self) -> int: ...


class ThreadFigures(Protocol):
    """What the pulse reads of the threads that work for runs."""

    @property
    def busy(self) -> int: ...
    @property
    def most(self) -> int: ...


class QueueFigures(Protocol):
    """What the pulse reads of the queue."""

    @property
    def pending(self) -> int: ...
    @property
    def oldest_ready_seconds(self) -> float: ...


class Pulse:
    """Publishes ``board``'s slot from ``start`` to ``stop``; ``stop`` removes it."""

    def __init__(
        self,
        board: StatusBoard,
        metrics: Metrics,
        *,
        supervision: Supervision | None = None,
        pool_figures: Callable[[], PoolFigures] | None = None,
        writer_figures: Callable[[], WriterFigures] | None = None,
        answer_figures: Callable[[], MemoryFigures] = AnswersStatus,
        body_figures: Callable[[], MemoryFigures] = BodiesStatus,
        gate_figures: Callable[[], Mapping[str, GateFigures]] = dict,
        queue_figures: Callable[[], QueueFigures | None] = lambda: None,
        thread_figures: Callable[[], ThreadFigures] | None = None,
        runs_running: Callable[[], int] | None = None,
        caller_figures: Callable[[], CallerFigures] = CallersStatus,
        deaf_runs: Callable[[], int] = lambda: 0,
        runs_watched: Callable[[], int] = lambda: 0,
        threads_watched: Callable[[], int] = lambda: 0,
        events_waiting_bytes: Callable[[], int] = lambda: 0,
        notices_connected: Callable[[], bool] = lambda: False,
    ) -> None:
        self._board = board
        self._metrics = metrics
        self._pool_figures = pool_figures
        self._writer_figures = writer_figures
        self._answer_figures = answer_figures
        self._gate_figures = gate_figures
        self._body_figures = body_figures
        self._queue_figures = queue_figures
        self._thread_figures = thread_figures
        self._runs_running = runs_running
        self._caller_figures = caller_figures
        self._deaf_runs = deaf_runs
        self._runs_watched = runs_watched
        self._threads_watched = threads_watched
        self._events_waiting_bytes = events_waiting_bytes
        self._notices_connected = notices_connected
        self._lags: deque[float] = deque(maxlen=_LAG_BEATS)
        self._tasks = Tasks(supervision)

    async def start(self) -> None:
        self._board.measure_with(self.measure)
        self._board.publish()
        self._tasks.keep(self._beat, name="pulse")

    async def stop(self) -> None:
        await self._tasks.stop()
        self._board.remove()

    def measure(self) -> Figures:
        """This process now."""
        pool = self._pool_figures() if self._pool_figures is not None else None
        writer = self._writer_figures() if self._writer_figures is not None else None
        threads = self._thread_figures() if self._thread_figures is not None else ThreadsStatus()
        queue = self._queue_figures()
        return Figures(
            pool=None if pool is None else PoolStatus.model_validate(pool),
            writer=None if writer is None else WriterStatus.model_validate(writer),
            answers=AnswersStatus.model_validate(self._answer_figures()),
            bodies=BodiesStatus.model_validate(self._body_figures()),
            gates={
                name: GateStatus.model_validate(one) for name, one in self._gate_figures().items()
            },
            queue=None if queue is None else QueueStatus.model_validate(queue),
            runs_running=self._runs_running() if self._runs_running is not None else 0,
            callers=CallersStatus.model_validate(self._caller_figures()),
            deaf_runs=self._deaf_runs(),
            threads=ThreadsStatus.model_validate(threads),
            runs_watched=self._runs_watched(),
            threads_watched=self._threads_watched(),
            events_waiting_bytes=self._events_waiting_bytes(),
            notices_connected=self._notices_connected(),
            connections=self._metrics.connections_open(),
            loop_lag_seconds=round(max(self._lags, default=0.0), 4),
            rss_bytes=resident_bytes(),
            open_fds=open_files(),
            gc_collections=collections_by_generation(),
            checkpoints=self._metrics.checkpoint_latency.percentiles(),
            flushes=self._metrics.flush_latency.percentiles(),
            store=self._metrics.store_latency.percentiles(),
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
                self._board.publish()
