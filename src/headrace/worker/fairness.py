"""How callers share the places of a process: who gets the next one, who is at the limit."""

from collections.abc import Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from time import monotonic

import structlog

from headrace.observability.figures import CallerFigures
from headrace.queue.ready_callers import CallerRuns
from headrace.shares import Places

_log = structlog.stdlib.get_logger("headrace.worker")

#: A caller is logged again after this time.
_LOG_AGAIN_SECONDS = 60.0


def fair_share(places: Places, ready: Sequence[CallerRuns], limit: int) -> list[CallerRuns]:
    """Choose which ready runs to claim: ``limit`` at most.

    The next place goes to the caller that holds the fewest places. Among callers that hold equally
    many, the one whose run has waited longest gets it. A caller that has its share gets none.
    """
    trial, taken = places.copy(), [0] * len(ready)
    waiting = [
        (places.held_by(one.caller), one.first_ready, number) for number, one in enumerate(ready)
    ]
    heapify(waiting)
    left = limit
    while waiting and left:
        held, first_ready, number = heappop(waiting)
        # A caller that may not take a place now will not be able to: other callers only take more.
        if not trial.take(ready[number].caller):
            continue
        left -= 1
        taken[number] += 1
        if taken[number] < ready[number].runs:
            heappush(waiting, (held + 1, first_ready, number))
    return [replace(one, runs=runs) for one, runs in zip(ready, taken, strict=True) if runs]


def caller_figures(places: Places) -> CallerFigures:
    """The figures of ``places``. While no place is free, ``at_limit`` is 0."""
    held = places.callers()
    at_limit = sum(not places.allowance(caller) for caller in held) if places.free else 0
    return CallerFigures(len(held), at_limit, max(held.values(), default=0))


class LimitLog:
    """Logs which callers have reached their limit, each once a minute."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._logged: dict[str, float] = {}

    def reached(self, caller: str) -> None:
        """Log that a run of this caller waits although places are free."""
        now = monotonic()
        if now - self._logged.get(caller, float("-inf")) < _LOG_AGAIN_SECONDS:
            return
        self._logged = {
            one: at for one, at in self._logged.items() if now - at < _LOG_AGAIN_SECONDS
        }
        self._logged[caller] = now
        _log.warning(
            "caller_at_limit",
            caller=caller,
            places=self._places.held_by(caller),
            free=self._places.free,
        )
