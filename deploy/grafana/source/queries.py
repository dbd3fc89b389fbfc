"""PromQL of the series that a dashboard's variables choose.

Each pod counts for itself, and a figure of a pod is the sum over its processes. So most figures are
summed over pods. Figures of the queue and of tables describe the database, and each pod tells the
whole: there, and for what one process may have too much of, the greatest value counts.
"""

from dataclasses import dataclass

#: The variables' names are labels. What a Prometheus has not set is chosen by ``.*``.
VARIABLES = ("namespace", "job", "pod", "instance")
_CHOSEN = ",".join(f'{label}=~"${label}"' for label in VARIABLES)

#: Requests that last as long as a run, and those that answer at once. Probes are in neither.
LONG_ROUTES = 'route=~".*/(stream|wait|join)|/chat"'
PLAIN_ROUTES = 'route!~".*/(stream|wait|join)|/chat|/livez|/readyz|/startupz|/health|/metrics|/ok"'


@dataclass(frozen=True)
class Line:
    """An expression, and how its series are called: ``{{label}}`` is the label's value."""

    promql: str
    legend: str


def series(metric: str, *matchers: str) -> str:
    return f"{metric}{{{','.join((_CHOSEN, *matchers))}}}"


def total(metric: str, *matchers: str, by: str = "") -> str:
    return _folded("sum", series(metric, *matchers), by)


def greatest(metric: str, *matchers: str, by: str = "") -> str:
    return _folded("max", series(metric, *matchers), by)


def least(metric: str, *matchers: str, by: str = "") -> str:
    return _folded("min", series(metric, *matchers), by)


def rate(counter: str, *matchers: str, by: str = "") -> str:
    """The increase in each second, summed."""
    return _folded("sum", f"rate({series(counter, *matchers)}[$__rate_interval])", by)


def times(counter: str, *matchers: str, by: str = "") -> str:
    """How often within one step of the picture: for what should hardly ever happen.

    A counter with labels begins with its first count, of which ``increase`` knows nothing. So the
    whole value counts where the series is new.
    """
    counted = series(counter, *matchers)
    new = f"({counted} unless last_over_time({counted}[1h] offset $__rate_interval))"
    return _folded("sum", f"{new} or increase({counted}[$__rate_interval])", by)


def quantile(share: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', *matchers, by=labels)})"


def mean(histogram: str, *matchers: str, by: str = "") -> str:
    summed, counted = (rate(f"{histogram}_{part}", *matchers, by=by) for part in ("sum", "count"))
    return f"{summed} / {counted}"


def or_zero(promql: str) -> str:
    """What nobody has counted yet has no series, and is 0."""
    return f"({promql} or vector(0))"


def share(part: str, whole: str) -> str:
    """The part of a sum; 0 where the sum is 0."""
    return f"{or_zero(part)} / clamp_min({or_zero(whole)}, 1e-9)"


def each(part: str, whole: str) -> str:
    """How much there is for each one of ``whole``; nothing where there is none."""
    return f"{part} / ({whole} > 0)"


def rate_by(counter: str, by: str) -> Line:
    """A line for each value of the labels, which are its name."""
    return Line(rate(counter, by=by), _values(by))


def quantile_by(share: float, histogram: str, by: str) -> Line:
    return Line(quantile(share, histogram, by=by), _values(by))


def counted_by(counter: str, by: str, *, prefix: str = "") -> Line:
    return Line(times(counter, by=by), prefix + _values(by))


def counted(counter: str, legend: str) -> Line:
    """How often, labels or not; 0 before the first time."""
    return Line(or_zero(times(counter)), legend)


def percentiles(histogram: str, *matchers: str) -> tuple[Line, ...]:
    """What half, nineteen of twenty and 99 of 100 stay below."""
    return tuple(
        Line(quantile(share, histogram, *matchers), name)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def over_processes(metric: str, *, unit: str = "") -> tuple[Line, ...]:
    """The sum, and the processes that have least and most. ``unit`` ends the metric's name."""
    return (Line(total(f"{metric}{unit}"), "all processes"), *extremes(metric, unit=unit))


def extremes(metric: str, *, unit: str = "") -> tuple[Line, Line]:
    """The processes that have least and most, of all pods."""
    return (
        Line(greatest(f"{metric}_max{unit}"), "process with most"),
        Line(least(f"{metric}_min{unit}"), "process with least"),
    )


def _folded(how: str, promql: str, by: str) -> str:
    return f"{how} by ({by}) ({promql})" if by else f"{how}({promql})"


def _values(labels: str) -> str:
    """Names a line by the values of labels: ``{{graph}}: {{node}}``."""
    return ": ".join(f"{{{{{label}}}}}" for label in labels.split(", "))
