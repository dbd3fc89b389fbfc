"""Metrics of traces: what became of the spans."""

from headrace.observability.declarations import Declarations


class TraceMetrics:
    """Trace metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._spans = declarations.counters(
            "headrace_spans_total",
            "Spans that were exported, that the collector did not take, or that did not find room"
            " in the queue.",
            ("outcome",),
        )

    def count_spans(self, outcome: str, count: int) -> None:
        """:param outcome: ``exported``, ``failed`` or ``dropped``."""
        self._spans.labels(outcome).inc(count)
