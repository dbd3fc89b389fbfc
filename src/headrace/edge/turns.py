"""Turns: the requests that a process works on at once.

A turn lasts from the end of a request's body to its answer, or until the request waits at another
gate. The event loop works in the order of arrival. Without turns, hundreds of requests that one
caller sends at once would all come before the next request of another caller. With one caller or
several, a turn begins when the intake of the process lets the request in (``intake.py``).
"""

from collections.abc import Callable
from time import monotonic

import structlog

from headrace.edge.intake import Intake
from headrace.errors import CallerShareUsed
from headrace.shares import Gate, QueueFull
from headrace.unavailable_errors import Overloaded

_log = structlog.stdlib.get_logger("headrace.places")

#: Each gate has at most one log line in this time.
_LOG_SECONDS = 10.0


class Refusals:
    """Counts and logs the requests that a gate has refused.

    :param count: called with the gate and the reason of each refusal.
    """

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._not_logged: dict[str, int] = {}
        self._logged_at: dict[str, float] = {}

    def note(self, gate: str, reason: str, caller: str) -> None:
        """:param reason: ``timeout``, ``queue_full``, ``share`` or ``full``."""
        self._count(gate, reason)
        self._not_logged[gate] = self._not_logged.get(gate, 0) + 1
        now = monotonic()
        if now - self._logged_at.get(gate, float("-inf")) < _LOG_SECONDS:
            return
        _log.warning(
            "place_refused",
            gate=gate,
            reason=reason,
            caller=caller or None,
            refused=self._not_logged.pop(gate),
        )
        self._logged_at[gate] = now


class Turn:
    """The turn of one request. Small, so that whatever ends it may hold it for long."""

    __slots__ = ("_caller", "_gate", "_turns")

    def __init__(self, turns: "Turns", caller: str, gate: Gate | None) -> None:
        self._turns: Turns | None = turns
        self._caller = caller
        self._gate = gate

    def end(self) -> None:
        """Give the turn back: the work is done, or something else bounds the rest of it, or the
        request waits for another one. Later calls do nothing.
        """
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release(self._caller, self._gate)


class Turns:
    """The turns of one process.

    :param gate: shares turns among several callers. While there is only one, no request waits here:
        the caller would wait for itself.
    """

    def __init__(self, gate: Gate, intake: Intake, refusals: Refusals) -> None:
        self.gate = gate
        self.intake = intake
        self._refusals = refusals

    async def take(self, caller: str) -> Turn:
        """Wait for a turn of this caller.

        :raises CallerShareUsed: the caller's turn did not come in time.
        :raises Overloaded: the process has more requests than it can work on.
        """
        gate = self.gate if self.gate.places.shared else None
        if gate is not None:
            await self._take_from(gate, caller)
        try:
            await self._enter(caller)
        except BaseException:
            if gate is not None:
                gate.release(caller)
            raise
        return Turn(self, caller, gate)

    def release(self, caller: str, gate: Gate | None) -> None:
        """See :meth:`Turn.end`, which calls this once for each turn.

        :param gate: from which the turn has a place; None: there was one caller when it began.
        """
        self.intake.leave(caller)
        if gate is not None:
            gate.release(caller)

    async def _take_from(self, gate: Gate, caller: str) -> None:
        try:
            await gate.take(caller)
        except TimeoutError:
            self._refusals.note("requests", "timeout", caller)
            raise CallerShareUsed(
                "Too many requests with your API key wait for their turn in this process (setting"
                " callers.requests_at_once); send fewer at once, or try again."
            ) from None

    async def _enter(self, caller: str) -> None:
        try:
            await self.intake.enter(caller)
        except TimeoutError:
            self._refusals.note("intake", "timeout", caller)
            raise Overloaded from None
        except QueueFull:
            self._refusals.note("intake", "queue_full", caller)
            raise Overloaded from None
