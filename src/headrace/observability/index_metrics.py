"""Metrics of the store's semantic index: calls of the embedding model, and searches."""

from headrace.observability.declarations import DATABASE_BUCKETS, Declarations

#: Why a call of the embedding model came to nothing.
FAILURES = ("error", "timeout", "refused", "unfit")

#: How a search found its items.
PLANS = ("narrow", "index", "exact")


class IndexMetrics:
    """Metrics of the semantic index of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._embedding_seconds = declarations.histogram(
            "headrace_embedding_seconds",
            "Seconds of calls of the embedding model, failed ones included.",
            (*DATABASE_BUCKETS, 30, 60),
        )
        self._texts = declarations.counters(
            "headrace_embedded_texts_total",
            "Texts that the embedding model has made vectors of, by what they are.",
            ("kind",),
        )
        self._failures = declarations.counters(
            "headrace_embedding_failures_total",
            "Calls of the embedding model that came to nothing, by reason.",
            ("reason",),
        )
        self._search_seconds = declarations.histograms(
            "headrace_semantic_search_seconds",
            "Seconds of the database's part of searches by meaning, by how they were done.",
            ("plan",),
            DATABASE_BUCKETS,
        )
        for kind in ("item", "query"):
            self._texts.labels(kind)
        for reason in FAILURES:
            self._failures.labels(reason)
        for plan in PLANS:
            self._search_seconds.labels(plan)

    def observe_call(self, seconds: float) -> None:
        self._embedding_seconds.observe(seconds)

    def count_texts(self, kind: str, count: int) -> None:
        """:param kind: ``item`` or ``query``."""
        self._texts.labels(kind).inc(count)

    def count_failure(self, reason: str) -> None:
        """:param reason: one of :data:`FAILURES`."""
        self._failures.labels(reason).inc()

    def observe_search(self, plan: str, seconds: float) -> None:
        """:param plan: one of :data:`PLANS`."""
        self._search_seconds.labels(plan).observe(seconds)
