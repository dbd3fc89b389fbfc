"""Metrics of crons: what became of their slots, and how late."""

from headrace.observability.declarations import Declarations

_LATE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86_400)


class CronMetrics:
    """Metrics of the slots of crons that one process has taken."""

    def __init__(self, declarations: Declarations) -> None:
        self._due = declarations.counter(
            "headrace_cron_slots_due_total",
            "Due slots of crons that a process has taken; a slot counts again when it is retried.",
        )
        self._slots = declarations.counters(
            "headrace_cron_slots_total",
            "Slots of crons, by outcome.",
            ("outcome",),
        )
        self._late = declarations.histogram(
            "headrace_cron_late_seconds",
            "Seconds from the time of a slot until its run was queued.",
            _LATE_BUCKETS,
        )
        for outcome in ("fired", "taken", "busy", "refused", "disabled", "postponed"):
            self._slots.labels(outcome)

    def count_due(self, count: int) -> None:
        self._due.inc(count)

    def observe_fired(self, late_seconds: float) -> None:
        """A slot has its run."""
        self._slots.labels("fired").inc()
        self._late.observe(late_seconds)

    def count_unfired(self, outcome: str) -> None:
        """A slot has no run from this process.

        :param outcome: ``taken``, ``busy``, ``refused``, ``disabled`` or ``postponed``.
        """
        self._slots.labels(outcome).inc()
