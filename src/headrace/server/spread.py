"""How many connections each process of a master has, in memory that all of them share.

A kernel gives a new connection to whichever process asks first, so connections that clients keep
open gather in one process while another idles. Each process publishes its number here and lets a
process with fewer connections go first (:mod:`headrace.server.listener`).
"""

import mmap
from collections.abc import Collection

#: Processes that one master may have at the same time with a place of their own.
_PLACES = 64
_BYTES = 4
#: The value of a place whose process takes no connections: more than any process has.
_AWAY = 2**31 - 1


class Spread:
    """The numbers of all processes. Made in the master, before the fork."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _PLACES * _BYTES)).cast("i")
        for index in range(_PLACES):
            self._numbers[index] = _AWAY

    def free_place(self, taken: Collection[int]) -> "ProcessPlace | None":
        """A place that is not among ``taken``; None if there is none."""
        index = next((one for one in range(_PLACES) if one not in taken), None)
        return None if index is None else ProcessPlace(self._numbers, index)


class ProcessPlace:
    """The number of one process."""

    def __init__(self, numbers: "memoryview[int]", index: int) -> None:
        self._numbers = numbers
        self._takes = False
        self.index = index

    def join(self) -> None:
        """This process takes connections from now on."""
        self._takes = True
        self._numbers[self.index] = 0

    def leave(self) -> None:
        """This process takes no more connections. Nobody waits for it from now on."""
        self._takes = False
        self._numbers[self.index] = _AWAY

    def publish(self, connections: int) -> None:
        """Tell the others how many connections this process has, if it takes any."""
        if self._takes:
            self._numbers[self.index] = connections

    def count_one(self) -> None:
        """A connection was taken, and its protocol does not have it yet."""
        if self._takes:
            self._numbers[self.index] += 1

    def fewest(self) -> int:
        """Connections of the process that has the fewest, of those that take any."""
        return min(self._numbers)

    def is_ahead(self) -> bool:
        """Whether another process that takes connections has fewer of them."""
        return self.fewest() < self._numbers[self.index]
