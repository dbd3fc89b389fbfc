"""The intake of a process: how many requests begin while its event loop is behind.

An event loop with hundreds of requests in progress answers nothing quickly, not even ``/livez``,
and serves no more requests than one with a dozen. So requests wait here, before any work is done
for them, and begin as others are answered. A request that has waited too long is refused with
``Retry-After``.

A request is *in work* from its turn until its answer begins. Streams and waits leave when their
headers are sent, so open streams and long runs count nowhere here. How many may be in work follows
from the delay of the event loop: see :class:`Pace`.
"""

import asyncio
from contextvars import Context
from time import monotonic

from headrace.request_settings import RequestSettings
from headrace.shares import Gate, Places, Share

_TICK_SECONDS = 0.01
#: Without a new request for this long, the delay of the loop is not measured.
_IDLE_SECONDS = 0.5

#: Requests that may always be in work.
_FEWEST = 1.0
_FIRST = 16.0
#: More requests than the first may be in work while the loop is late by less than this part of the
#: bound: they bring no more answers, and make all wait longer, ``/livez`` too.
_FOR_MORE = 0.4
_FASTER, _SLOWER = 1.03, 0.9
#: Below this part of the bound the loop is calm, and more may begin.
_CALM = 0.6
#: Weight of the newest delay in the smoothed one.
_NEWEST = 0.3
#: A loop that stays late for so long, with the fewest requests in work, is late for other reasons.
_STARVED_SECONDS = 1.0
#: For this time its delay then counts as normal.
_FORGIVEN_SECONDS = 5.0


class Pace:
    """How many requests may be in work, from how late the event loop is.

    The number falls while the delay of the loop is above the bound, and grows while requests wait
    and the delay is clearly below the bound. For more than 16 the bound is stricter. A graph that
    blocks the loop, or another program on the machine, delays the loop however few requests are in
    work, and then fewer requests do not help. So if the loop has not recovered with the fewest
    requests, the number grows again for some seconds, until the delay is twice as long as it was
    with the fewest.

    :param bound_seconds: a delay of the loop that is no reason to slow down.
    :param most: requests in work at most.
    """

    def __init__(self, bound_seconds: float, most: int) -> None:
        self._bound_seconds = self._bound = bound_seconds
        self._most = float(most)
        self._fewest = min(_FEWEST, self._most)
        self.limit = min(_FIRST, self._most)
        self._late = 0.0
        #: The least delay since the number has been at its fewest, and since when.
        self._least = 0.0
        self._starved_at: float | None = None
        self._forgiven_until = float("-inf")

    def begin(self) -> None:
        """Measuring begins anew after a pause."""
        self._late, self._starved_at = 0.0, None

    def look(self, late_seconds: float, now: float, *, wanted: bool) -> None:
        """
        :param late_seconds: how late the loop has been now.
        :param now: in seconds, on any clock.
        :param wanted: whether requests wait.
        """
        self._late += _NEWEST * (late_seconds - self._late)
        bound = self._bound_at(now)
        if self._late > bound:
            self.limit = max(self._fewest, self.limit * _SLOWER)
            if self.limit == self._fewest:
                self._note_starved(now)
            return
        self._starved_at = None
        if wanted and self._late < _CALM * bound:
            self.limit = min(self._most, self.limit * _FASTER)

    def _bound_at(self, now: float) -> float:
        if now < self._forgiven_until:
            return self._bound
        self._bound = self._bound_seconds
        return self._bound if self.limit <= _FIRST else _FOR_MORE * self._bound

    def _note_starved(self, now: float) -> None:
        if self._starved_at is None:
            self._starved_at, self._least = now, self._late
        self._least = min(self._least, self._late)
        if now - self._starved_at > _STARVED_SECONDS:
            self._bound = 2 * self._least
            self._forgiven_until = now + _FORGIVEN_SECONDS


class Intake:
    """One per process; used on its event loop.

    :param share: the part of the places to wait in that one of several callers may have.
    """

    def __init__(self, settings: RequestSettings, share: Share | float = 1.0) -> None:
        self._pace = Pace(settings.loop_delay_seconds, settings.at_once)
        #: Callers take turns here, as at any gate: nobody waits behind the queue of another.
        self._gate = Gate(
            Places(int(self._pace.limit)),
            timeout_seconds=settings.wait_seconds,
            queue=Places(settings.max_waiting, share),
        )
        self._entered_at = float("-inf")
        self._due: float | None = None

    @property
    def held(self) -> int:
        """Requests in work."""
        return self._gate.places.taken

    @property
    def waiting(self) -> int:
        return self._gate.waiting

    async def enter(self, caller: str) -> None:
        """Wait until the request may be worked on. Then :meth:`leave` must follow.

        :raises TimeoutError: that took too long.
        :raises QueueFull: too many requests wait already, or too many of this caller.
        """
        self._entered_at = now = monotonic()
        if self._due is None:
            self._pace.begin()
            self._look_later(now)
        await self._gate.take(caller)

    def leave(self, caller: str) -> None:
        """The request is answered, or refused, or another gate bounds the rest of its work."""
        self._gate.release(caller)

    def _look_later(self, now: float) -> None:
        self._due = now + _TICK_SECONDS
        # The context of a request would live on in the timer.
        asyncio.get_running_loop().call_later(_TICK_SECONDS, self._look, context=Context())

    def _look(self) -> None:
        now = monotonic()
        assert self._due is not None
        self._pace.look(max(0.0, now - self._due), now, wanted=self._gate.waiting > 0)
        self._gate.resize(int(self._pace.limit))
        if self._gate.waiting or now - self._entered_at < _IDLE_SECONDS:
            self._look_later(now)
        else:
            self._due = None
