"""Metrics of webhooks: calls by outcome, and how long receivers waited."""

from headrace.observability.declarations import REQUEST_BUCKETS, Declarations

#: Deliveries are repeated for hours.
_DELIVERY_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400)


class WebhookMetrics:
    """Metrics of the webhooks of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._calls = declarations.counters(
            "headrace_webhook_calls_total",
            "Calls of receivers, by what became of the delivery.",
            ("outcome",),
        )
        self._seconds = declarations.histogram(
            "headrace_webhook_call_seconds", "Seconds of a call, failed or not.", REQUEST_BUCKETS
        )
        self._delivery_seconds = declarations.histogram(
            "headrace_webhook_delivery_seconds",
            "Seconds from the end of a run until its receiver has answered.",
            _DELIVERY_BUCKETS,
        )
        for outcome in ("sent", "retried", "dead"):
            self._calls.labels(outcome)

    def observe_call(self, outcome: str, seconds: float) -> None:
        """:param outcome: ``sent``, ``retried`` or ``dead``."""
        self._calls.labels(outcome).inc()
        self._seconds.observe(seconds)

    def observe_sent(self, seconds: float) -> None:
        """:param seconds: since the end of the run."""
        self._delivery_seconds.observe(seconds)
