"""Metrics of runs: their ends, claims, rescues and releases."""

from headrace.observability.declarations import RUN_BUCKETS, Declarations


class RunMetrics:
    """Run metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations
        self._runs = declarations.counter(
            "headrace_runs_total", "Runs that reached a terminal status.", ("graph", "status")
        )
        self._run_seconds = declarations.histogram(
            "headrace_run_seconds", "Seconds a run was executed for.", ("graph",), RUN_BUCKETS
        )
        self._claims = declarations.counter(
            "headrace_claims_total", "Runs taken out of the queue.", ()
        )
        self._apart_runs = declarations.counter(
            "headrace_runs_apart_total",
            "Runs whose process was lost, and that then had a process to themselves.",
            (),
        )
        self._refused_runs = declarations.counter(
            "headrace_refused_runs_total",
            "Runs that were refused with 429, by reason.",
            ("reason",),
        )
        self._rescues = declarations.counter(
            "headrace_rescues_total",
            "Runs taken from lost processes, by what they became: pending again, or ended.",
            ("status",),
        )
        self._lease_losses = declarations.counter(
            "headrace_lease_losses_total", "Times that a process lost its lease and its runs.", ()
        )
        self._drained = declarations.counter(
            "headrace_drained_runs_total",
            "Runs of draining processes: finished in time, or released to others.",
            ("outcome",),
        )
        self._stored_events = declarations.counter(
            "headrace_events_stored_total", "Events of runs that were stored.", ()
        )
        self._notices = declarations.counter(
            "headrace_notices_total", "Notices between processes, by direction.", ("direction",)
        )

    def observe_run(self, graph: str, status: str, seconds: float) -> None:
        """Count a run that this process executed."""
        self.count_run(graph, status)
        self._run_seconds.labels(self._declarations.bounded("graph", graph)).observe(seconds)

    def count_run(self, graph: str, status: str) -> None:
        """Count a run that ended without being executed here, for example by the rescuer."""
        self._runs.labels(self._declarations.bounded("graph", graph), status).inc()

    def count_claim(self) -> None:
        self._claims.inc()

    def count_run_apart(self) -> None:
        self._apart_runs.inc()

    def count_refused_run(self, reason: str) -> None:
        """:param reason: ``too_many_queued_runs``."""
        self._refused_runs.labels(reason).inc()

    def count_rescue(self, status: str) -> None:
        self._rescues.labels(status).inc()

    def count_lease_loss(self) -> None:
        self._lease_losses.inc()

    def count_drained(self, outcome: str) -> None:
        self._drained.labels(outcome).inc()

    def count_stored_events(self, count: int) -> None:
        self._stored_events.inc(count)

    def count_notice(self, direction: str) -> None:
        """:param direction: ``sent`` or ``received``."""
        self._notices.labels(direction).inc()
