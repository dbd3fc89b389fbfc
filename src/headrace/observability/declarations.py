"""How metrics are declared: counters and histograms of one registry, with bounded labels."""

from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram

Kind = TypeVar("Kind", bound=Counter | Histogram)

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


class Family(Generic[Kind]):
    """A metric with labels: one series for each combination of their values.

    A label has so many values at most; others are counted together. A series is looked up once: for
    prometheus-client that takes longer than counting.
    """

    def __init__(self, metric: Kind, names: Sequence[str]) -> None:
        self._metric = metric
        #: The values of each label.
        self._values: list[set[str]] = [set() for _ in names]
        self._series: dict[tuple[str, ...], Kind] = {}

    def labels(self, *values: str) -> Kind:
        """The series with these values, which begins at 0."""
        found = self._series.get(values)
        return found if found is not None else self._series_of(values)

    def _series_of(self, values: tuple[str, ...]) -> Kind:
        bounded = tuple(map(_bounded, self._values, values))
        series = cast("Kind", self._metric.labels(*bounded))
        if bounded == values:
            # Other values have no end, so nothing is kept for them.
            self._series[values] = series
        return series


def _bounded(known: set[str], value: str) -> str:
    if value in known:
        return value
    if len(known) >= _VALUES_PER_LABEL:
        return OTHER
    known.add(value)
    return value


class Declarations:
    """Declares the counters and histograms of one process.

    prometheus-client holds them, in multiprocess files if ``PROMETHEUS_MULTIPROC_DIR`` is set.
    Labels come from bounded sets: never a path, an id, or a user.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def counters(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Counter]:
        """A counter for each combination of values of ``labels``."""
        return Family(Counter(name, text, labels, registry=self._registry), labels)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self._registry, buckets=buckets)

    def histograms(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Family[Histogram]:
        """A histogram for each combination of values of ``labels``."""
        metric = Histogram(name, text, labels, registry=self._registry, buckets=buckets)
        return Family(metric, labels)
