"""Bounds on time for machines of every speed."""

import time

_ADDITIONS = 200_000
#: What they take on a machine of the usual speed.
_USUAL_SECONDS = 0.01


def within(seconds: float) -> float:
    """So many seconds on a machine of the usual speed; more on one that is slow or busy now.

    For bounds that only say "at once" or "not after the time-out". What is really measured is
    compared with something that is measured beside it.
    """
    began, total = time.perf_counter(), 0
    for number in range(_ADDITIONS):
        total += number
    return seconds * max(1.0, (time.perf_counter() - began) / _USUAL_SECONDS)
