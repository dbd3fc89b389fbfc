"""The access log: one line for each answer, and its metrics.

Above a rate, lines of plain successes are left out: at thousands of requests a second they would
cost more than the answers, and nobody reads them. Refusals of callers above their rate are left out
likewise. Other refusals, faults, cuts and slow answers always have their line.
"""

import re
from time import monotonic, perf_counter
from typing import Any

import structlog
from starlette.types import Scope

from headrace.admission_errors import RateLimited
from headrace.edge.exchange import Exchange, route_of
from headrace.graphs.http_entry import HeaderRules
from headrace.observability.http_metrics import UNMATCHED, HttpMetrics

_log = structlog.stdlib.get_logger("headrace.access")

_FIRST_REFUSAL = 400

#: Probes ask for these every few seconds. They are logged at debug.
QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics", "/ok"})

#: An answer whose first byte took so many seconds always has its line.
_SLOW_SECONDS = 1.0

_ID = "([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
#: The ids of a path. Paths of stateless runs name no thread.
_IDS = re.compile(rf"/threads/{_ID}(?:/runs/{_ID})?|/runs/{_ID}")


class AccessLog:
    """Logs and counts answers. One per process.

    :param http: None without headrace's lifespan: then nothing is counted.
    :param lines_per_second: lines of plain successes, on average; 0: all of them.
    """

    def __init__(self, http: HttpMetrics | None = None, *, lines_per_second: float = 0) -> None:
        self._http = http
        self._rate = lines_per_second
        #: Lines that may be written now. It grows by the rate, up to the lines of one second.
        self._lines = float(lines_per_second)
        self._looked = monotonic()
        self._left_out = 0

    def begin(self) -> Exchange:
        """Note that a request has come. Call :meth:`end` in every case."""
        if self._http is not None:
            self._http.requests_in_flight += 1
        return Exchange(self._http)

    def end(
        self,
        scope: Scope,
        exchange: Exchange,
        headers: HeaderRules | None,
        *,
        quiet: bool = False,
        trace_id: str | None = None,
    ) -> None:
        """Log and count an answer that has ended.

        :param headers: the headers of the request that the line shows.
        :param quiet: log at debug.
        :param trace_id: the id of the request's trace; None: it has none.
        """
        seconds = perf_counter() - exchange.started
        exchange.end()
        route = route_of(scope, exchange.status) or UNMATCHED
        if scope["method"] == "HEAD":
            # The server sends no body, whatever the app gives it.
            exchange.body_bytes = 0
        if self._http is not None:
            self._http.requests_in_flight -= 1
            self._http.observe_request(
                scope["method"],
                route,
                exchange.status,
                seconds,
                code=exchange.code,
                first_byte_seconds=exchange.first_byte_seconds,
                body_bytes=exchange.body_bytes,
            )
            if exchange.cut:
                self._http.count_cut_stream(exchange.cut)
        if not quiet and self._is_left_out(exchange):
            return
        log = _log.debug if quiet else _log.info
        log(
            "request_answered",
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=exchange.status,
            seconds=round(seconds, 4),
            **self._fields(scope, exchange, quiet=quiet),
            **({"trace_id": trace_id} if trace_id is not None else {}),
            **({"headers": headers.chosen(scope["headers"])} if headers is not None else {}),
        )

    def _is_left_out(self, exchange: Exchange) -> bool:
        if not self._rate:
            return False
        now = monotonic()
        self._lines = min(self._rate, self._lines + self._rate * (now - self._looked))
        self._looked = now
        first = exchange.first_byte_seconds
        if exchange.code != RateLimited.code and (
            exchange.status >= _FIRST_REFUSAL
            or exchange.cut
            or exchange.code
            or (first is not None and first >= _SLOW_SECONDS)
        ):
            # Such lines take nothing from the rate, so that they cannot crowd out the successes.
            # Only a caller above its rate gets so many refusals that their lines count too.
            return False
        if self._lines >= 1.0:
            self._lines -= 1.0
            return False
        self._left_out += 1
        if self._http is not None:
            self._http.count_dropped_line()
        return True

    def _fields(self, scope: Scope, exchange: Exchange, *, quiet: bool) -> dict[str, Any]:
        """Fields that only some lines have."""
        fields: dict[str, Any] = {}
        if exchange.code:
            fields["code"] = exchange.code
        if exchange.cut:
            fields["cut"] = exchange.cut
        if exchange.first_byte_seconds is not None:
            fields["first_byte_seconds"] = round(exchange.first_byte_seconds, 4)
        fields["bytes"] = exchange.body_bytes
        found = _IDS.search(exchange.location or "") or _IDS.search(scope["path"])
        if found is not None:
            if found[1]:
                fields["thread_id"] = found[1]
            if run_id := found[2] or found[3]:
                fields["run_id"] = run_id
        if (client := scope.get("client")) is not None:
            # The server has put the caller's own address here, if a trusted proxy has sent it.
            fields["client"] = client[0]
        if exchange.caller:
            fields["caller"] = exchange.caller
        if self._left_out and not quiet:
            # A quiet line may not be written, and the number must be.
            fields["left_out"], self._left_out = self._left_out, 0
        return fields
