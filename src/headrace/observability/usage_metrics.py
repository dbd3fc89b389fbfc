"""Metrics of model calls: tokens, seconds and outcomes by model."""

from headrace.observability.declarations import RUN_BUCKETS, Declarations


class UsageMetrics:
    """Metrics of the model calls of one process. Use it from any thread."""

    def __init__(self, declarations: Declarations) -> None:
        self._tokens = declarations.counters(
            "headrace_model_tokens_total",
            "Tokens that models reported, by kind. Input contains cached, output reasoning.",
            ("model", "kind"),
        )
        self._calls = declarations.counters(
            "headrace_model_calls_total", "Model calls, by how they ended.", ("model", "outcome")
        )
        self._seconds = declarations.histograms(
            "headrace_model_seconds",
            "Seconds from the start of a model call to its last token.",
            ("model",),
            RUN_BUCKETS,
        )
        self._exceeded = declarations.counters(
            "headrace_budget_exceeded_total",
            "Attempts of runs that were refused a model call by a budget of tokens.",
            ("budget",),
        )

    def observe_call(self, model: str, outcome: str, seconds: float) -> None:
        """:param outcome: ``success``, ``error`` or ``cancelled``."""
        self._calls.labels(model, outcome).inc()
        self._seconds.labels(model).observe(seconds)

    def count_tokens(self, model: str, kind: str, count: int) -> None:
        """:param kind: ``input``, ``output``, ``cached`` or ``reasoning``."""
        self._tokens.labels(model, kind).inc(count)

    def count_exceeded(self, budget: str) -> None:
        """:param budget: ``run``, ``thread`` or ``owner_day``."""
        self._exceeded.labels(budget).inc()
