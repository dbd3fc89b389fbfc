"""What makes a load test fail: failures, and the percentiles of all its requests."""

from collections.abc import Mapping
from typing import NamedTuple

from loadtests.common.profile import Profile


class Overall(NamedTuple):
    """All requests of a test together; the first event of a stream counts as one of them."""

    requests: int
    failures: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def percentile_of(times: Mapping[int, int], rank: float) -> float:
    """Of response times in milliseconds with their counts; 0 without any."""
    wanted, seen = rank * sum(times.values()), 0
    for milliseconds in sorted(times):
        seen += times[milliseconds]
        if seen >= wanted:
            return float(milliseconds)
    return 0.0


def broken_thresholds(profile: Profile, found: Overall, completed: int) -> list[str]:
    """A sentence for each; the exit code is 1 if there is any.

    :param completed: scenarios that came to their end.
    """
    told = []
    if found.failures > profile.max_failures * found.requests:
        told.append(
            f"{found.failures} of {found.requests} requests failed; LOAD_MAX_FAILURES allows the"
            f" part {profile.max_failures:g}"
        )
    for name, milliseconds, bound in (
        ("p95", found.p95_ms, profile.p95_ms),
        ("p99", found.p99_ms, profile.p99_ms),
    ):
        if milliseconds > bound:
            told.append(
                f"{name} of all requests is {milliseconds:g} ms; LOAD_{name.upper()}_MS allows"
                f" {bound:g}"
            )
    if not completed:
        # No failure, but no proof of anything either.
        told.append("no scenario was completed")
    return told
