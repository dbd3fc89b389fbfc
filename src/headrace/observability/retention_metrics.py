"""Metrics of retention: what was deleted because its time was over."""

from headrace.observability.declarations import Declarations


class RetentionMetrics:
    """Retention metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._expired_items = declarations.counter(
            "headrace_store_items_expired_total",
            "Store items deleted when their time was over.",
        )
        self._expired_threads = declarations.counters(
            "headrace_threads_expired_total",
            "Threads whose time to live was over, by what was done.",
            ("action",),
        )
        self._expired_runs = declarations.counter(
            "headrace_runs_expired_total",
            "Ended runs deleted because their time was over, or with the history of their thread.",
        )

    def count_expired_items(self, count: int) -> None:
        self._expired_items.inc(count)

    def count_expired_threads(self, action: str, count: int) -> None:
        """:param action: ``deleted``, ``reduced`` or ``left``."""
        self._expired_threads.labels(action).inc(count)

    def count_expired_runs(self, count: int) -> None:
        """Count runs that retention deleted, alone or with their threads."""
        self._expired_runs.inc(count)
