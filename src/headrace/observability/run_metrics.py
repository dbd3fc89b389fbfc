"""Metrics of runs: waits, attempts, ends and their causes, rescues and events."""

from headrace.observability.declarations import REQUEST_BUCKETS, RUN_BUCKETS, Declarations

#: A counter that begins with its first count shows no increase by it. So counters whose words are
#: known begin at 0: at the start of the process, or with the first run of a graph.
_STATUSES = ("success", "error", "timeout", "interrupted")
_CAUSES = ("graph", "platform", "timeout", "lost", "budget", "unserved", "deadline")
_RESCUED = ("pending", "error", "interrupted")
_PROOFS = ("exit", "lease")
_REASONS = ("client", "disconnect", "next_run", "deleted")
_DRAINED = ("finished", "at_boundary", "cut")
_PLACE_WAITS = ("started", "queued", "client_left")
_BEGAN = ("in_place", "claimed", "after_loss", "after_release")


class RunMetrics:
    """Run metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._runs = declarations.counters(
            "headrace_runs_total", "Runs that reached a terminal status.", ("graph", "status")
        )
        self._run_seconds = declarations.histograms(
            "headrace_run_seconds", "Seconds a run was executed for.", ("graph",), RUN_BUCKETS
        )
        self._errors = declarations.counters(
            "headrace_run_errors_total",
            "Runs that ended as error or timeout, by cause.",
            ("graph", "cause"),
        )
        self._cancels = declarations.counters(
            "headrace_run_cancels_total",
            "Requests to stop a run that had not ended, by who asked.",
            ("reason",),
        )
        self._claims = declarations.counter("headrace_claims_total", "Runs taken out of the queue.")
        self._apart_runs = declarations.counter(
            "headrace_runs_apart_total",
            "Runs whose process was lost, and that then had a process to themselves.",
        )
        self._refused_runs = declarations.counters(
            "headrace_refused_runs_total",
            "Runs that were refused with 429, by reason.",
            ("reason",),
        )
        self._rescues = declarations.counters(
            "headrace_rescues_total",
            "Runs taken from lost processes, by what they became: pending again, or ended.",
            ("status",),
        )
        self._rescue_proofs = declarations.counters(
            "headrace_rescue_proofs_total",
            "Runs taken from lost processes, by what proved the loss: its end, or its lease.",
            ("proof",),
        )
        self._repeated_rescues = declarations.counter(
            "headrace_repeated_rescues_total",
            "Runs taken from lost processes that had been taken from one before.",
        )
        self._lease_losses = declarations.counter(
            "headrace_lease_losses_total", "Times that a process lost its lease and its runs."
        )
        self._drained = declarations.counters(
            "headrace_drained_runs_total",
            "Runs of draining processes: finished, released after a step, or cut in a step.",
            ("outcome",),
        )
        for counter, words in (
            (self._rescues, _RESCUED),
            (self._rescue_proofs, _PROOFS),
            (self._cancels, _REASONS),
            (self._drained, _DRAINED),
        ):
            for word in words:
                counter.labels(word)
        self._known_graphs: set[str] = set()
        self._stored_events = declarations.counter(
            "headrace_events_stored_total", "Events of runs that were stored."
        )

    def observe_run(self, graph: str, status: str, seconds: float) -> None:
        """Count a run that this process executed."""
        self.count_run(graph, status)
        self._run_seconds.labels(graph).observe(seconds)

    def know_graph(self, graph: str) -> None:
        """A run of the graph begins: its counters begin at 0."""
        if graph in self._known_graphs:
            return
        self._known_graphs.add(graph)
        for status in _STATUSES:
            self._runs.labels(graph, status)
        for cause in _CAUSES:
            self._errors.labels(graph, cause)

    def count_run(self, graph: str, status: str) -> None:
        """Count a run that ended without being executed here, for example by the rescuer."""
        self._runs.labels(graph, status).inc()

    def count_error(self, graph: str, cause: str) -> None:
        """:param cause: from ``queue.rows.Cause``."""
        self._errors.labels(graph, cause).inc()

    def count_unreadable(self, graph: str) -> None:
        """Count a run that ended because its row cannot be read."""
        self.count_run(graph, "error")
        self.count_error(graph, "platform")

    def count_cancel(self, reason: str) -> None:
        """:param reason: ``client``, ``disconnect``, ``next_run`` or ``deleted``."""
        self._cancels.labels(reason).inc()

    def count_claim(self) -> None:
        self._claims.inc()

    def count_run_apart(self) -> None:
        self._apart_runs.inc()

    def count_refused_run(self, reason: str) -> None:
        """:param reason: ``too_many_queued_runs``."""
        self._refused_runs.labels(reason).inc()

    def count_rescue(self, status: str, proof: str, *, again: bool = False) -> None:
        """
        :param proof: from ``queue.rows.Proof``.
        :param again: the run was rescued before, and may have ended that process too.
        """
        self._rescues.labels(status).inc()
        self._rescue_proofs.labels(proof).inc()
        if again:
            self._repeated_rescues.inc()

    def count_lease_loss(self) -> None:
        self._lease_losses.inc()

    def count_drained(self, outcome: str) -> None:
        self._drained.labels(outcome).inc()

    def count_stored_events(self, count: int) -> None:
        self._stored_events.inc(count)


class AttemptMetrics:
    """Metrics of attempts: how they began, how long they waited, their steps and their nodes."""

    def __init__(self, declarations: Declarations) -> None:
        self._queue_seconds = declarations.histograms(
            "headrace_run_queue_seconds",
            "Seconds from when a run may start to the start of its first attempt.",
            ("graph",),
            REQUEST_BUCKETS,
        )
        self._place_wait_seconds = declarations.histograms(
            "headrace_place_wait_seconds",
            "Seconds that a start waited in memory for a place of its process.",
            ("outcome",),
            REQUEST_BUCKETS,
        )
        for outcome in _PLACE_WAITS:
            self._place_wait_seconds.labels(outcome)
        self._first_event_seconds = declarations.histograms(
            "headrace_run_first_event_seconds",
            "Seconds from a run's creation to the first event of its graph.",
            ("graph",),
            REQUEST_BUCKETS,
        )
        self._attempts = declarations.counters(
            "headrace_run_attempts_total",
            "Attempts to execute a run, by how they began.",
            ("began",),
        )
        for began in _BEGAN:
            self._attempts.labels(began)
        self._steps = declarations.counters(
            "headrace_steps_total", "Steps of graphs that were executed.", ("graph",)
        )
        self._repeated_nodes = declarations.counters(
            "headrace_repeated_nodes_total",
            "Nodes that a later attempt executed again in its first step.",
            ("graph",),
        )
        self._node_seconds = declarations.histograms(
            "headrace_node_seconds",
            "Seconds that a node took, from the start of its step.",
            ("graph", "node"),
            RUN_BUCKETS,
        )
        self._slow_nodes = declarations.counters(
            "headrace_slow_nodes_total",
            "Nodes that took longer than worker.slow_node_seconds.",
            ("graph",),
        )

    def observe_place_wait(self, outcome: str, seconds: float) -> None:
        """Observe how long a start has waited for a place.

        :param outcome: ``started``, ``queued`` or ``client_left``.
        """
        self._place_wait_seconds.labels(outcome).observe(seconds)

    def count_attempt(self, began: str) -> None:
        """:param began: ``in_place``, ``claimed``, ``after_loss`` or ``after_release``."""
        self._attempts.labels(began).inc()

    def observe_queue(self, graph: str, seconds: float) -> None:
        """Observe how long a run waited for its first attempt."""
        self._queue_seconds.labels(graph).observe(seconds)

    def observe_first_event(self, graph: str, seconds: float) -> None:
        self._first_event_seconds.labels(graph).observe(seconds)

    def observe_node(self, graph: str, node: str, seconds: float) -> None:
        """Observe one node that has ended."""
        self._node_seconds.labels(graph, node).observe(seconds)

    def count_steps(self, graph: str, steps: int) -> None:
        self._steps.labels(graph).inc(steps)

    def count_repeated_node(self, graph: str) -> None:
        self._repeated_nodes.labels(graph).inc()

    def count_slow_node(self, graph: str) -> None:
        self._slow_nodes.labels(graph).inc()
