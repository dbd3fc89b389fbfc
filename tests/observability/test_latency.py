"""Percentiles of a sliding window, held against the sorted data."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as some

from headrace.observability.latency import LatencyWindow, Percentiles

DURATIONS = some.lists(some.integers(min_value=0, max_value=10**7), min_size=1, max_size=300)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def window_of(durations: list[float]) -> LatencyWindow:
    window = LatencyWindow()
    for duration in durations:
        window.add(duration)
    return window


@given(DURATIONS)
def test_a_percentile_is_the_least_duration_that_so_many_do_not_exceed(microseconds) -> None:
    durations = [number / 10**6 for number in microseconds]
    found = window_of(durations).percentiles()
    assert found.operations == len(durations)
    for quantile, value in (
        (0.50, found.p50_seconds),
        (0.95, found.p95_seconds),
        (0.99, found.p99_seconds),
    ):
        least = next(
            one
            for one in sorted(durations)
            if sum(other <= one for other in durations) >= ceil(quantile * len(durations))
        )
        assert value == least


def test_one_to_a_hundred() -> None:
    found = window_of([number / 100 for number in range(100, 0, -1)]).percentiles()
    assert found == Percentiles(
        operations=100, p50_seconds=0.50, p95_seconds=0.95, p99_seconds=0.99
    )


def test_nothing_measured_is_all_zeros() -> None:
    assert LatencyWindow().percentiles() == Percentiles()


def test_memory_is_bounded_and_the_newest_stay() -> None:
    window = LatencyWindow(capacity=10)
    for number in range(100_000):
        window.add(float(number))
    found = window.percentiles()
    assert found.operations == 10
    assert found.p50_seconds == pytest.approx(99_994)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    clock = Clock()
    window = LatencyWindow(seconds=60, clock=clock)
    window.add(9.0)
    clock.now += 59
    window.add(1.0)
    assert window.percentiles().operations == 2
    clock.now += 2
    assert window.percentiles() == Percentiles(
        operations=1, p50_seconds=1.0, p95_seconds=1.0, p99_seconds=1.0
    )
    clock.now += 60
    assert window.percentiles() == Percentiles()
