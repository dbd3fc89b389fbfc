"""Metrics of identity: who was let in, by what, and who was refused."""

from prometheus_client import Counter

from headrace.observability.declarations import Declarations


class AuthMetrics:
    """Metrics of the identity of callers of one process."""

    def __init__(self, declarations: Declarations) -> None:
        #: Finding a series takes longer than counting.
        self._series: dict[tuple[str, str], Counter] = {}
        self._checks = declarations.counters(
            "headrace_auth_checks_total",
            "Requests by how their caller proved who it is, and what became of them.",
            ("proof", "outcome"),
        )
        self._keys_fetched = declarations.counters(
            "headrace_auth_issuer_fetches_total",
            "Fetches of the issuer's keys (JWKS), by outcome.",
            ("outcome",),
        )
        self._handler_calls = declarations.counters(
            "headrace_auth_handler_calls_total",
            "Calls of handlers of auth in langgraph.json, by kind and outcome.",
            ("kind", "outcome"),
        )
        for outcome in ("admitted", "refused"):
            self._checks.labels("none", outcome)
        self._handler_calls.labels("authenticate", "failed")
        for outcome in ("done", "failed"):
            self._keys_fetched.labels(outcome)

    def count_check(self, proof: str, outcome: str) -> None:
        """
        :param proof: ``setting_key``, ``database_key``, ``token``, ``handler`` or ``none``.
        :param outcome: ``admitted``, ``refused`` or ``unavailable``.
        """
        series = self._series.get((proof, outcome))
        if series is None:
            series = self._series[proof, outcome] = self._checks.labels(proof, outcome)
        series.inc()

    def count_handler_call(self, kind: str, outcome: str) -> None:
        """
        :param kind: ``authenticate`` or ``on``.
        :param outcome: ``allowed``, ``denied``, ``failed``, or ``remembered`` for a user whom the
            handler was not asked about again.
        """
        self._handler_calls.labels(kind, outcome).inc()

    def count_fetch(self, outcome: str) -> None:
        """:param outcome: ``done`` or ``failed``."""
        self._keys_fetched.labels(outcome).inc()
