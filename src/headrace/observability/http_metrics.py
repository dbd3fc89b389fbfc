"""Metrics of HTTP: requests, and what was refused or cut."""

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from headrace.observability.declarations import OTHER, REQUEST_BUCKETS, Declarations

#: A process counts at most so many combinations of method, route, status and code. An app of the
#: user might answer with any of them.
_MOST_SERIES = 4000
#: The route of requests that match none, so that scanners cannot create new series.
UNMATCHED = "__unmatched__"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class _Series:
    """What one answer is counted in."""

    requests: Counter
    seconds: Histogram
    first_byte_seconds: Histogram
    body_bytes: Counter


class HttpMetrics:
    """HTTP metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        #: Open connections of this process. The server keeps it up to date.
        self.connections_open = 0
        #: Requests without a whole answer, and the streams and waits among them. The access log
        #: keeps them up to date.
        self.requests_in_flight = 0
        self.streams_open = 0
        #: The series of each answer that was counted: finding them takes longer than counting.
        self._series: dict[tuple[str, str, int, str], _Series] = {}
        self._http_requests = declarations.counters(
            "headrace_http_requests_total",
            "HTTP requests answered, by route template, status and the code of a refusal.",
            ("method", "route", "status", "code"),
        )
        self._http_seconds = declarations.histograms(
            "headrace_http_request_seconds",
            "Seconds from a request's first byte to the last of its response; streams included.",
            ("method", "route"),
            REQUEST_BUCKETS,
        )
        self._first_byte_seconds = declarations.histograms(
            "headrace_http_first_byte_seconds",
            "Seconds from a request's first byte until its response began; its head may be sent up"
            " to 0.1 s later.",
            ("method", "route"),
            REQUEST_BUCKETS,
        )
        self._body_bytes = declarations.counters(
            "headrace_http_response_bytes_total",
            "Bytes of response bodies that were sent, by route template.",
            ("route",),
        )
        self._cut_streams = declarations.counters(
            "headrace_streams_cut_total",
            "Streams, waits and large answers that ended without their proper end, by reason.",
            ("reason",),
        )
        self._dropped_lines = declarations.counter(
            "headrace_access_lines_dropped_total",
            "Lines of the access log that were left out, because there were too many a second.",
        )
        self._cut_clients = declarations.counters(
            "headrace_slow_clients_cut_total",
            "Streams cut because their client did not read in time, by reason.",
            ("reason",),
        )
        self._cut_connections = declarations.counters(
            "headrace_connections_cut_total",
            "Connections that the server refused or closed before their time, by reason.",
            ("reason",),
        )
        self._keyed_requests = declarations.counters(
            "headrace_keyed_requests_total",
            "Requests with an Idempotency-Key, by what became of them.",
            ("outcome",),
        )
        self._repeated_requests = declarations.counter(
            "headrace_http_requests_repeated_total",
            "Requests that were done again inside headrace, because the database was away.",
        )
        self._bounded_answers = declarations.counters(
            "headrace_bounded_answers_total",
            "Answers that met a bound on what they may read, by what became of them.",
            ("outcome",),
        )
        self._gate_refusals = declarations.counters(
            "headrace_gate_refusals_total",
            "Requests that were given no place of a gate, by gate and reason.",
            ("gate", "reason"),
        )
        self._refused_bodies = declarations.counters(
            "headrace_refused_bodies_total",
            "Request bodies that were refused for want of memory, by reason.",
            ("reason",),
        )

    def observe_request(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        *,
        code: str = "",
        first_byte_seconds: float | None = None,
        body_bytes: int = 0,
    ) -> None:
        """Count one answered request.

        :param route: the template, never the path.
        :param code: the stable code of a refusal of headrace, else empty.
        :param first_byte_seconds: None if nothing was sent.
        """
        known = method if method in _METHODS else OTHER
        series = self._series_of(known, route, status, code)
        series.requests.inc()
        series.seconds.observe(seconds)
        if first_byte_seconds is not None:
            series.first_byte_seconds.observe(first_byte_seconds)
        if body_bytes:
            series.body_bytes.inc(body_bytes)

    def _series_of(self, method: str, route: str, status: int, code: str) -> _Series:
        found = self._series.get((method, route, status, code))
        return found if found is not None else self._new_series(method, route, status, code)

    def _new_series(self, method: str, route: str, status: int, code: str) -> _Series:
        labels = (method, route, str(status), code)
        room = len(self._series) < _MOST_SERIES
        series = _Series(
            self._http_requests.labels(*(labels if room else (OTHER,) * 4)),
            self._http_seconds.labels(method, route),
            self._first_byte_seconds.labels(method, route),
            self._body_bytes.labels(route),
        )
        if room:
            self._series[method, route, status, code] = series
        return series

    def count_refused_connection(self, status: int, code: str) -> None:
        """Count an answer that was sent before there was a whole request."""
        self._series_of(OTHER, UNMATCHED, status, code).requests.inc()

    def count_cut_stream(self, reason: str) -> None:
        """:param reason: ``drain``, ``slow_client``, ``fault`` or ``client_left``."""
        self._cut_streams.labels(reason).inc()

    def count_dropped_line(self) -> None:
        self._dropped_lines.inc()

    def count_cut_connection(self, reason: str) -> None:
        self._cut_connections.labels(reason).inc()

    def count_repeated_request(self) -> None:
        self._repeated_requests.inc()

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
