"""The line in which starts wait for a place of this process, in memory.

A run that finds all places taken would be queued in the database, claimed from there, and followed
through its row: several transactions, which cost more than a short run itself. While runs here are
short, a place becomes free within milliseconds. So the start waits for it, and is queued only if
none becomes free in time.
"""

from collections import deque
from time import monotonic

from headrace.shares import Gate, Places, TurnedAway

#: The pace of a caller is measured over its last ends of runs, so many of them.
_ENDS = 16
#: If places become free less often than this, runs are so long that the queue costs little beside
#: them, and another process may have a free place.
_LONGEST_INTERVAL_SECONDS = 0.1


class WaitingLine:
    """One per process. The caller that holds the fewest places is first; its starts keep order.

    :param seconds: the longest wait; 0: nobody waits.
    """

    def __init__(self, places: Places, seconds: float) -> None:
        self._seconds = seconds
        self._gate = Gate(places, timeout_seconds=seconds)
        #: When the last places of each caller became free.
        self._freed: dict[str, deque[float]] = {}

    @property
    def waiting(self) -> int:
        return self._gate.waiting

    @property
    def held_back(self) -> int:
        """So many free places are not for those that wait."""
        return self._gate.held_back

    @held_back.setter
    def held_back(self, places: int) -> None:
        self._gate.held_back = places

    def is_short(self, caller: str, *, starts_get_half: bool) -> bool:
        """Whether one more start of this caller would probably get a place in time.

        A caller gets places as fast as its own runs give them back.

        :param starts_get_half: half of the places that become free are for the queue.
        """
        freed = self._freed.get(caller)
        if freed is None or len(freed) < _ENDS:
            return False
        interval = (monotonic() - freed[0]) / _ENDS
        ahead = self._gate.waiting_of(caller) * (2 if starts_get_half else 1)
        return interval <= _LONGEST_INTERVAL_SECONDS and (ahead + 1) * interval <= self._seconds

    async def wait(self, caller: str) -> bool:
        """Wait for a place; return whether the caller holds one now."""
        try:
            await self._gate.wait(caller)
        except (TimeoutError, TurnedAway):
            return False
        return True

    def note_freed(self, caller: str) -> None:
        """Note that a run of this caller has given its place back."""
        now = monotonic()
        freed = self._freed.get(caller)
        if freed is None:
            oldest = now - _ENDS * _LONGEST_INTERVAL_SECONDS
            self._freed = {one: times for one, times in self._freed.items() if times[-1] > oldest}
            freed = self._freed[caller] = deque(maxlen=_ENDS)
        freed.append(now)

    def admit(self) -> None:
        """Give the free places to those that wait."""
        self._gate.admit()

    def turn_away(self) -> None:
        """Let those that wait go on without a place."""
        self._gate.turn_away()
