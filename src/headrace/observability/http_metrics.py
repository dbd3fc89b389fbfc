"""Metrics of HTTP: requests, and what was refused or cut."""

from headrace.observability.declarations import OTHER, REQUEST_BUCKETS, Declarations

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """HTTP metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations
        #: Open connections of this process. The server keeps it up to date.
        self.connections_open = 0
        self._http_requests = declarations.counter(
            "headrace_http_requests_total",
            "HTTP requests answered, by route template.",
            ("method", "route", "status"),
        )
        self._http_seconds = declarations.histogram(
            "headrace_http_request_seconds",
            "Seconds from a request's first byte to the last of its response; streams included.",
            ("method", "route"),
            REQUEST_BUCKETS,
        )
        self._cut_clients = declarations.counter(
            "headrace_slow_clients_cut_total",
            "Streams cut because their client did not read in time, by reason.",
            ("reason",),
        )
        self._cut_connections = declarations.counter(
            "headrace_connections_cut_total",
            "Connections that the server refused or closed before their time, by reason.",
            ("reason",),
        )
        self._keyed_requests = declarations.counter(
            "headrace_keyed_requests_total",
            "Requests with an Idempotency-Key, by what became of them.",
            ("outcome",),
        )
        self._bounded_answers = declarations.counter(
            "headrace_bounded_answers_total",
            "Answers that met a bound on what they may read, by what became of them.",
            ("outcome",),
        )
        self._gate_refusals = declarations.counter(
            "headrace_gate_refusals_total",
            "Requests that were given no place of a gate, by gate and reason.",
            ("gate", "reason"),
        )
        self._refused_bodies = declarations.counter(
            "headrace_refused_bodies_total",
            "Request bodies that were refused for want of memory, by reason.",
            ("reason",),
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the template, never the path."""
        known = method if method in _METHODS else OTHER
        template = self._declarations.bounded("route", route)
        self._http_requests.labels(known, template, str(status)).inc()
        self._http_seconds.labels(known, template).observe(seconds)

    def count_cut_connection(self, reason: str) -> None:
        self._cut_connections.labels(reason).inc()

    def count_bounded_answer(self, outcome: str) -> None:
        """:param outcome: ``shortened``, ``too_large``, ``no_room`` or ``cut``."""
        self._bounded_answers.labels(outcome).inc()

    def count_gate_refusal(self, gate: str, reason: str) -> None:
        """:param reason: ``timeout``, ``queue_full``, ``share`` or ``full``."""
        self._gate_refusals.labels(gate, reason).inc()

    def count_refused_body(self, reason: str) -> None:
        """:param reason: ``no_room`` or ``stalled``."""
        self._refused_bodies.labels(reason).inc()

    def count_keyed_request(self, outcome: str) -> None:
        """:param outcome: ``made``, ``resumed``, ``repeated`` or ``refused``."""
        self._keyed_requests.labels(outcome).inc()

    def count_cut_client(self, reason: str) -> None:
        """:param reason: ``stalled``, ``memory`` or ``behind``; from ``BufferBudget``."""
        self._cut_clients.labels(reason).inc()
