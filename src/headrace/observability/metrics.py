"""The Prometheus metrics of headrace. The lifespan builds them.

Counters and histograms are declared here. prometheus-client holds them, in multiprocess files if
``PROMETHEUS_MULTIPROC_DIR`` is set. Live gauges come from the status slots (``gauges.py``). Labels
come from bounded sets: never a path, an id, or a user.
"""

from collections.abc import Callable
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

from headrace.observability.exposition import Exposition, written
from headrace.observability.figures import FlushFigures
from headrace.observability.gauges import SlotCollector
from headrace.observability.latency import LatencyWindow
from headrace.observability.metric_files import reading
from headrace.observability.slots import StatusBoard

_log = structlog.stdlib.get_logger("headrace.metrics")

#: Media type of what ``Metrics.render`` returns.
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: A label has at most this many values; others are counted together as ``__other__``.
_VALUES_PER_LABEL = 200
_OTHER = "__other__"

_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RUN_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_DATABASE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """The metrics of one process; ``render`` answers for all processes of the pod."""

    def __init__(
        self,
        board: StatusBoard,
        *,
        multiprocess_dir: Path | None = None,
        cache_seconds: float = 1.0,
    ) -> None:
        #: What ``/metrics`` answers.
        self.exposition = Exposition(self.families, cache_seconds=cache_seconds)
        #: Open connections of this process. The server keeps it up to date.
        self.connections_open = 0
        self.checkpoint_latency = LatencyWindow()
        self.flush_latency = LatencyWindow()
        self.store_latency = LatencyWindow()
        self._gauges = SlotCollector(board)
        self._directory = _usable(multiprocess_dir)
        self._registry = CollectorRegistry()
        self._label_values: dict[str, set[str]] = {}
        self._declare()
        if self._directory is None:
            self._registry.register(self._gauges)

    def _declare(self) -> None:
        counter, histogram = _declarers(self._registry)
        self._http_requests = counter(
            "headrace_http_requests_total",
            "HTTP requests answered, by route template.",
            ("method", "route", "status"),
        )
        self._http_seconds = histogram(
            "headrace_http_request_seconds",
            "Seconds from a request's first byte to the last of its response; streams included.",
            ("method", "route"),
            _REQUEST_BUCKETS,
        )
        self._runs = counter(
            "headrace_runs_total", "Runs that reached a terminal status.", ("graph", "status")
        )
        self._run_seconds = histogram(
            "headrace_run_seconds", "Seconds a run was executed for.", ("graph",), _RUN_BUCKETS
        )
        self._claims = counter("headrace_claims_total", "Runs taken out of the queue.", ())
        self._apart_runs = counter(
            "headrace_runs_apart_total",
            "Runs whose process was lost, and that then had a process to themselves.",
            (),
        )
        self._refused_runs = counter(
            "headrace_refused_runs_total",
            "Runs that were refused with 429, by reason.",
            ("reason",),
        )
        self._rescues = counter(
            "headrace_rescues_total",
            "Runs taken from lost processes, by what they became: pending again, or ended.",
            ("status",),
        )
        self._lease_losses = counter(
            "headrace_lease_losses_total", "Times that a process lost its lease and its runs.", ()
        )
        self._drained = counter(
            "headrace_drained_runs_total",
            "Runs of draining processes: finished in time, or released to others.",
            ("outcome",),
        )
        self._checkpoint_seconds = histogram(
            "headrace_checkpoint_seconds",
            "Seconds of checkpoint operations, the wait for a connection included.",
            ("operation",),
            _DATABASE_BUCKETS,
        )
        self._flush_seconds = histogram(
            "headrace_flush_seconds",
            "Seconds of a group-commit flush, by part: wait in the queue, for a connection, for the"
            " database.",
            ("part",),
            _DATABASE_BUCKETS,
        )
        self._flush_operations = histogram(
            "headrace_flush_operations", "Writes that one flush committed.", (), _BATCH_BUCKETS
        )
        self._flushes = counter(
            "headrace_flushes_total",
            "Flushes by outcome: committed, retried, or rejected because of a row.",
            ("outcome",),
        )
        self._store_seconds = histogram(
            "headrace_store_seconds",
            "Seconds of store operations, the wait for a connection included.",
            ("operation",),
            _DATABASE_BUCKETS,
        )
        self._expired_items = counter(
            "headrace_store_items_expired_total",
            "Store items deleted when their time was over.",
            (),
        )
        self._expired_threads = counter(
            "headrace_threads_expired_total",
            "Threads whose time to live was over, by what was done.",
            ("action",),
        )
        self._expired_runs = counter(
            "headrace_runs_expired_total",
            "Ended runs deleted because their time was over, or with the history of their thread.",
            (),
        )
        self._blocked_types = counter(
            "headrace_checkpoint_types_blocked_total",
            "Values read from checkpoints whose type langgraph.json does not list.",
            (),
        )
        self._checkout_seconds = histogram(
            "headrace_pool_checkout_seconds",
            "Seconds that requests waited for a pool connection, in vain or not.",
            (),
            _DATABASE_BUCKETS,
        )
        self._pool_timeouts = counter(
            "headrace_pool_timeouts_total", "Requests that got no pool connection in time.", ()
        )
        self._stored_events = counter(
            "headrace_events_stored_total", "Events of runs that were stored.", ()
        )
        self._cut_clients = counter(
            "headrace_slow_clients_cut_total",
            "Streams cut because their client did not read in time, by reason.",
            ("reason",),
        )
        self._cut_connections = counter(
            "headrace_connections_cut_total",
            "Connections that the server refused or closed before their time, by reason.",
            ("reason",),
        )
        self._notices = counter(
            "headrace_notices_total", "Notices between processes, by direction.", ("direction",)
        )
        self._keyed_requests = counter(
            "headrace_keyed_requests_total",
            "Requests with an Idempotency-Key, by what became of them.",
            ("outcome",),
        )
        self._bounded_answers = counter(
            "headrace_bounded_answers_total",
            "Answers that met a bound on what they may read, by what became of them.",
            ("outcome",),
        )
        self._gate_refusals = counter(
            "headrace_gate_refusals_total",
            "Requests that were given no place of a gate, by gate and reason.",
            ("gate", "reason"),
        )
        self._refused_bodies = counter(
            "headrace_refused_bodies_total",
            "Request bodies that were refused for want of memory, by reason.",
            ("reason",),
        )
        self._loop_stalls = counter(
            "headrace_loop_stalls_total",
            "Times something blocked the event loop for longer than the watchdog bears.",
            (),
        )
        self._faults = counter(
            "headrace_background_faults_total",
            "Background tasks that failed or ended before they were asked to.",
            ("task",),
        )

    def observe_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the template, never the path."""
        known = method if method in _METHODS else _OTHER
        template = self._bounded("route", route)
        self._http_requests.labels(known, template, str(status)).inc()
        self._http_seconds.labels(known, template).observe(seconds)

    def observe_run(self, graph: str, status: str, seconds: float) -> None:
        """Count a run that this process executed."""
        self.count_run(graph, status)
        self._run_seconds.labels(self._bounded("graph", graph)).observe(seconds)

    def count_run(self, graph: str, status: str) -> None:
        """Count a run that ended without being executed here, for example by the rescuer."""
        self._runs.labels(self._bounded("graph", graph), status).inc()

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

    def observe_checkpoint(self, operation: str, seconds: float) -> None:
        self.checkpoint_latency.add(seconds)
        self._checkpoint_seconds.labels(operation).observe(seconds)

    def observe_flush(self, flush: FlushFigures) -> None:
        """Count one try of a flush."""
        self._flushes.labels(flush.outcome).inc()
        if flush.outcome == "committed":
            self.flush_latency.add(flush.database_seconds)
            self._flush_operations.observe(flush.operations)
            self._flush_seconds.labels("queue").observe(flush.queue_seconds)
            self._flush_seconds.labels("pool").observe(flush.pool_seconds)
            self._flush_seconds.labels("database").observe(flush.database_seconds)

    def observe_store(self, operation: str, seconds: float) -> None:
        self.store_latency.add(seconds)
        self._store_seconds.labels(operation).observe(seconds)

    def count_expired_items(self, count: int) -> None:
        self._expired_items.inc(count)

    def count_expired_threads(self, action: str, count: int) -> None:
        """:param action: ``deleted``, ``reduced`` or ``left``."""
        self._expired_threads.labels(action).inc(count)

    def count_expired_runs(self, count: int) -> None:
        """Count runs that retention deleted, alone or with their threads."""
        self._expired_runs.inc(count)

    def count_blocked_type(self) -> None:
        """Count a type in a checkpoint that the serializer did not load."""
        self._blocked_types.inc()

    def observe_checkout(self, seconds: float, timed_out: bool) -> None:
        """Count a request for a connection: the seconds it waited, and whether it got none."""
        self._checkout_seconds.observe(seconds)
        if timed_out:
            self._pool_timeouts.inc()

    def count_stored_events(self, count: int) -> None:
        self._stored_events.inc(count)

    def count_cut_client(self, reason: str) -> None:
        """:param reason: ``stalled``, ``memory`` or ``behind``; from ``BufferBudget``."""
        self._cut_clients.labels(reason).inc()

    def count_cut_connection(self, reason: str) -> None:
        self._cut_connections.labels(reason).inc()

    def count_notice(self, direction: str) -> None:
        """:param direction: ``sent`` or ``received``."""
        self._notices.labels(direction).inc()

    def count_keyed_request(self, outcome: str) -> None:
        """:param outcome: ``made``, ``resumed``, ``repeated`` or ``refused``."""
        self._keyed_requests.labels(outcome).inc()

    def count_bounded_answer(self, outcome: str) -> None:
        """:param outcome: ``shortened``, ``too_large``, ``no_room`` or ``cut``."""
        self._bounded_answers.labels(outcome).inc()

    def count_gate_refusal(self, gate: str, reason: str) -> None:
        """:param reason: ``timeout``, ``queue_full``, ``share`` or ``full``."""
        self._gate_refusals.labels(gate, reason).inc()

    def count_refused_body(self, reason: str) -> None:
        """:param reason: ``no_room`` or ``stalled``."""
        self._refused_bodies.labels(reason).inc()

    def count_loop_stall(self) -> None:
        self._loop_stalls.inc()

    def record_fault(self, task: str, error: BaseException | None = None) -> None:
        """Count and log a fault of a background task."""
        self._faults.labels(self._bounded("task", task)).inc()
        _log.error("background_task_failed", task=task, exc_info=error)

    def render(self) -> bytes:
        """The present metrics of all processes of the pod as Prometheus text. It blocks: call it
        from a thread.
        """
        return written(self.families())

    def families(self) -> list[Metric]:
        """The metrics of all processes of the pod, before they are written as text."""
        if self._directory is None:
            return list(self._registry.collect())
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        registry.register(self._gauges)
        with reading(self._directory):
            return list(registry.collect())

    def _bounded(self, label: str, value: str) -> str:
        seen = self._label_values.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= _VALUES_PER_LABEL:
            return _OTHER
        seen.add(value)
        return value


def _declarers(
    registry: CollectorRegistry,
) -> tuple[
    Callable[[str, str, tuple[str, ...]], Counter],
    Callable[[str, str, tuple[str, ...], tuple[float, ...]], Histogram],
]:
    def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=registry)

    def histogram(
        name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, text, labels, registry=registry, buckets=buckets)

    return counter, histogram


def _usable(directory: Path | None) -> Path | None:
    """The directory; None if prometheus-client was imported before its variable was set."""
    if directory is None or getattr(values.ValueClass, "_multiprocess", False):
        return directory
    _log.warning(
        "metrics_of_one_process_only",
        why="PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported",
    )
    return None
