"""Metrics of the process itself: its event loop and its background tasks."""

import structlog

from headrace.observability.declarations import Declarations
from headrace.observability.process import collections_by_generation

_log = structlog.stdlib.get_logger("headrace.metrics")


class ProcessMetrics:
    """Metrics of one process itself."""

    def __init__(self, declarations: Declarations) -> None:
        self._loop_stalls = declarations.counter(
            "headrace_loop_stalls_total",
            "Times something blocked the event loop for longer than the watchdog bears.",
        )
        self._faults = declarations.counters(
            "headrace_background_faults_total",
            "Background tasks that failed or ended before they were asked to.",
            ("task",),
        )
        self._collections = declarations.counters(
            "headrace_gc_collections_total",
            "Garbage collections, by generation.",
            ("generation",),
        )
        self._notices = declarations.counters(
            "headrace_notices_total", "Notices between processes, by direction.", ("direction",)
        )
        # A process that was forked begins with the numbers of the process it comes from.
        self._collected = collections_by_generation()

    def count_loop_stall(self) -> None:
        self._loop_stalls.inc()

    def count_collections(self) -> None:
        """Count the garbage collections since the last call."""
        found = collections_by_generation()
        for generation, (before, now) in enumerate(zip(self._collected, found, strict=True)):
            self._collections.labels(str(generation)).inc(now - before)
        self._collected = found

    def count_notice(self, direction: str) -> None:
        """:param direction: ``sent`` or ``received``."""
        self._notices.labels(direction).inc()

    def record_fault(self, task: str, error: BaseException | None = None) -> None:
        """Count and log a fault of a background task."""
        self._faults.labels(task).inc()
        _log.error("background_task_failed", task=task, exc_info=error)
