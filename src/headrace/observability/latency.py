"""Sliding-window latency: how long the operations of the last minute took, for status slots and
/health.

Prometheus histograms answer for hours and many pods; this answers for one process, now.
"""

from collections import deque
from collections.abc import Callable
from math import ceil
from time import monotonic

from pydantic import BaseModel, ConfigDict


class Percentiles(BaseModel):
    """Latency of the operations in the window, in seconds; zeros when there were none."""

    model_config = ConfigDict(frozen=True)

    operations: int = 0
    p50_seconds: float = 0.0
    p95_seconds: float = 0.0
    p99_seconds: float = 0.0


class LatencyWindow:
    """The last ``capacity`` durations that are younger than ``seconds``."""

    def __init__(
        self,
        *,
        seconds: float = 60.0,
        capacity: int = 2048,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._ring: deque[tuple[float, float]] = deque(maxlen=capacity)

    def add(self, duration_seconds: float) -> None:
        self._ring.append((self._clock(), duration_seconds))

    def percentiles(self) -> Percentiles:
        oldest = self._clock() - self._seconds
        while self._ring and self._ring[0][0] < oldest:
            self._ring.popleft()
        ordered = sorted(duration for _, duration in self._ring)
        if not ordered:
            return Percentiles()
        return Percentiles(
            operations=len(ordered),
            p50_seconds=_nearest_rank(ordered, 0.50),
            p95_seconds=_nearest_rank(ordered, 0.95),
            p99_seconds=_nearest_rank(ordered, 0.99),
        )


def _nearest_rank(ordered: list[float], quantile: float) -> float:
    return round(ordered[ceil(quantile * len(ordered)) - 1], 6)
