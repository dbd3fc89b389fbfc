"""How many requests a caller may send in a second.

Each caller has a moment up to which its requests are paid for. Each request moves it on by the time
that one request may take at the allowed rate. A moment too far in the future means too many
requests. (The generic cell rate algorithm: a token bucket in one number.)
"""

import math
from time import monotonic

from headrace.admission_errors import RateLimited

#: With so many callers, those that have been silent are forgotten.
_MANY = 10_000
_SHORT_SECONDS = 0.01


class Rates:
    """One per process.

    :param per_second: requests of one caller on average; 0: no limit.
    :param burst_seconds: requests of so many seconds may come at once.
    """

    def __init__(self, per_second: float, burst_seconds: float) -> None:
        self._per_second = per_second
        self._interval = 1.0 / per_second if per_second else 0.0
        # At least one request can always come.
        self._burst = max(burst_seconds, self._interval)
        self._paid_until: dict[str, float] = {}
        self._forget_at = _MANY

    def admit(self, caller: str) -> None:
        """
        :raises RateLimited: the caller has sent too many requests.
        """
        if not self._interval:
            return
        paid = self._next(caller)
        wait = paid - monotonic() - self._burst
        # The rounding of floats is no request too many.
        if wait > 1e-6:
            raise RateLimited(self._per_second, math.ceil(wait))
        self._note(caller, paid)

    def reserve(self, caller: str) -> float:
        """Count what nobody may refuse, such as a message of a WebSocket.

        :returns: the seconds that it has to wait, for it is one too many. Short waits are left out:
            a later one is longer.
        """
        if not self._interval:
            return 0.0
        paid = self._next(caller)
        self._note(caller, paid)
        wait = paid - monotonic() - self._burst
        return wait if wait > _SHORT_SECONDS else 0.0

    def _next(self, caller: str) -> float:
        """Up to when its requests are paid for with the next one."""
        return max(monotonic(), self._paid_until.get(caller, 0.0)) + self._interval

    def _note(self, caller: str, paid: float) -> None:
        self._paid_until[caller] = paid
        if len(self._paid_until) > self._forget_at:
            self._forget(monotonic())

    def _forget(self, now: float) -> None:
        self._paid_until = {one: at for one, at in self._paid_until.items() if at > now}
        # Looking through all of them again for each new one would take long.
        self._forget_at = max(_MANY, 2 * len(self._paid_until))
