"""How metrics are declared: counters and histograms of one registry, with bounded labels."""

from prometheus_client import CollectorRegistry, Counter, Histogram

#: A label has at most this many values; others are counted together as ``OTHER``.
_VALUES_PER_LABEL = 200
OTHER = "__other__"

#: Buckets in seconds. Joins, queue waits and runs may last an hour.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
RUN_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
DATABASE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: As those, but a write is repeated for ``checkpointer.retry_seconds`` while the database is away.
COMMIT_BUCKETS = (*DATABASE_BUCKETS, 30, 60)
#: Buckets in numbers of writes.
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Declarations:
    """The counters and histograms of one process.

    prometheus-client holds them, in multiprocess files if ``PROMETHEUS_MULTIPROC_DIR`` is set.
    Labels come from bounded sets: never a path, an id, or a user.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._label_values: dict[str, set[str]] = {}

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def bounded(self, label: str, value: str) -> str:
        """``value``, or ``OTHER`` if the label has its most values already."""
        seen = self._label_values.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= _VALUES_PER_LABEL:
            return OTHER
        seen.add(value)
        return value
