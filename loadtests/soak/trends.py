"""What a soak is held to: how much each figure grows, and how many requests are refused.

Growth is a line through the samples, by the number of requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from loadtests.measuring.figures import Judged, Target, significant, spread
from loadtests.soak.samples import Sample, names_of

#: Growth is told for so many requests.
STEP = 100_000
#: The first third is not looked at: caches fill, and what is kept for some minutes comes to rest.
_SETTLED = 1 / 3
_FEWEST_SAMPLES = 8
_REFUSED_PERCENT = Target(1.0, lower_is_better=True)


@dataclass(frozen=True)
class Trend:
    """``growth`` is per 100,000 requests, ``share`` that of the mean."""

    name: str
    mean: float
    growth: float

    @property
    def share(self) -> float:
        return self.growth / self.mean if self.mean else 0.0

    def plain(self) -> dict[str, object]:
        return {
            "name": self.name,
            "mean": significant(self.mean),
            "growth": significant(self.growth),
            "share": significant(self.share),
        }


def settled(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the last two thirds of the requests."""
    if not samples:
        return []
    first, last = samples[0].requests, samples[-1].requests
    return [one for one in samples if one.requests >= first + (last - first) * _SETTLED]


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Of each figure, over the last two thirds."""
    late = settled(samples)
    if len(late) < _FEWEST_SAMPLES:
        return []
    requests = [one.requests for one in late]
    return [
        Trend(name, mean(found), STEP * slope(requests, found))
        for name in names_of(late)
        for found in [[one.values[name] for one in late]]
    ]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the line with the least squares; 0 if all ``xs`` are one."""
    middle_x, middle_y = mean(xs), mean(ys)
    width = sum((x - middle_x) ** 2 for x in xs)
    if not width:
        return 0.0
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / width


def judged(found: Sequence[Trend]) -> list[Judged]:
    """Growth of each figure beside what it may be."""
    return [
        Judged(f"{one.name}, {unit}", {"median": value, "min": value, "max": value}, target)
        for one in found
        for unit, value, target in [_target(one)]
    ]


def refusals(percent: float) -> Judged:
    """A refusal is no failure, but a server that refuses much does not carry the load."""
    return Judged("refused requests in %", spread([percent]), _REFUSED_PERCENT)


def _target(trend: Trend) -> tuple[str, float, Target | None]:
    """Unit, figure and bound; what only follows the load has no bound."""
    growth, share = significant(trend.growth), significant(100 * trend.share)
    if trend.name.startswith("RSS"):
        return "growth", growth, Target(1.0, 0.2, lower_is_better=True)
    if trend.name.startswith(("files", "connections")):
        return "growth", growth, Target(0.5, 0.1, lower_is_better=True)
    if trend.name.startswith(("tables", "metric files")):
        return "growth in %", share, Target(3.0, 1.0, lower_is_better=True)
    return "growth in %", share, None
