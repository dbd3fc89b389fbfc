"""Figures of repeated measurements: spreads, ratios round by round, and what they are held to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


def percentile(values: Sequence[float], rank: float) -> float:
    """The smallest value that ``rank`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * rank))]


def significant(value: float) -> float:
    """Four digits: more is noise."""
    return float(f"{value:.4g}")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, extremes, and the quartiles where there are enough values for them."""
    found = {"median": median(values), "min": min(values), "max": max(values)}
    if len(values) >= 4:
        first, _, third = quantiles(values, n=4, method="inclusive")
        found |= {"q1": first, "q3": third}
    return {name: significant(value) for name, value in found.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours to theirs, round by round.

    Both cells of a round are of the same minute: what disturbs the machine for a while disturbs
    both. So the median of these is the figure, not the ratio of the medians.
    """
    return [one / other for one, other in zip(ours, theirs, strict=True) if other]


def figure(value: float) -> str:
    """A number as tables print it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Target:
    """``lower_is_better`` turns both bounds around."""

    floor: float
    goal: float | None = None
    lower_is_better: bool = False

    def verdict(self, value: float, *, share: float = 1.0) -> str:
        """``goal``, ``floor`` for what reaches only that, or ``missed``.

        :param share: of the floor that is enough: below 1 where a measurement is too short.
        """
        if self.goal is not None and self._reaches(value, self.goal):
            return "goal"
        enough = self.floor / share if self.lower_is_better else self.floor * share
        return "floor" if self._reaches(value, enough) else "missed"

    def __str__(self) -> str:
        sign = "<=" if self.lower_is_better else ">="
        beyond = "" if self.goal is None else f", goal {self.goal:g}"
        return f"{sign} {self.floor:g}{beyond}"

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.lower_is_better else value >= bound


@dataclass(frozen=True)
class Judged:
    """One figure with what it is held to; ``found`` is a spread."""

    label: str
    found: Mapping[str, float]
    target: Target | None = None
    share: float = 1.0

    @property
    def verdict(self) -> str:
        """``goal``, ``floor``, ``missed``, or nothing where no target is set."""
        if self.target is None:
            return ""
        return self.target.verdict(self.found["median"], share=self.share)

    def plain(self) -> dict[str, object]:
        """As JSON has it."""
        bounds = (
            {}
            if self.target is None
            else {
                "floor": self.target.floor,
                "goal": self.target.goal,
                "lower_is_better": self.target.lower_is_better,
                "verdict": self.verdict,
            }
        )
        return {"label": self.label, **self.found, **bounds}


def judged_lines(rows: Sequence[Judged]) -> Iterator[str]:
    """A table: label, floor, goal, median, least and greatest, verdict."""
    if not rows:
        return
    width = max(len(row.label) for row in rows) + 2
    yield f"{'':{width}}{'floor':>9}{'goal':>9}{'measured':>10}   least to greatest"
    for row in rows:
        floor, goal = ("-", "-") if row.target is None else _bounds(row.target)
        yield (
            f"{row.label:{width}}{floor:>9}{goal:>9}{figure(row.found['median']):>10}"
            f"   {figure(row.found['min'])} to {figure(row.found['max'])}"
            f"{'  ' + row.verdict if row.verdict else ''}"
        )


def missed(rows: Sequence[Judged]) -> bool:
    """Whether any figure misses its floor: the exit code of a measurement."""
    return any(row.verdict == "missed" for row in rows)


def _bounds(target: Target) -> tuple[str, str]:
    sign = "<=" if target.lower_is_better else ">="
    goal = "-" if target.goal is None else f"{sign}{target.goal:g}"
    return f"{sign}{target.floor:g}", goal
