"""Which processes of this server are dead, in memory that the master and its processes share.

A lease tells of a death when it has run out. The master knows at once: the kernel reports the end
of a child to its parent alone, and only when all threads of the child have ended and its
connections are closed. So each process notes here under which ids its runs begin. When the master
is told of its end, it puts these ids on the list of the dead, and the others give the runs back
(:mod:`headrace.worker.death_watch`). No pid is compared, so a pid that is used again is harmless.

No lock is needed. A place has one writer: its process, and after its end the master. The list has
one writer: the master. A reader that sees half an entry finds an id that no row has, or that of a
process that died before.
"""

import mmap
import time
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from itertools import count
from struct import Struct
from uuid import UUID

#: Processes that one master may have at once with a place here. Others have their lease alone.
_PLACES = 256
#: A process that has lost its lease goes on under a new id. Runs of the id before may be left.
_IDS = 2
#: The list keeps so many deaths; the oldest is overwritten.
_LISTED = 256
_ID_BYTES = 16
_PLACE_BYTES = _IDS * _ID_BYTES
#: The number of all deaths until now.
_TOTAL = Struct("=Q")
#: An id, and when its process ended, in seconds of the monotonic clock that all processes share.
_DEATH = Struct(f"={_ID_BYTES}sd")
_LIST_AT = _TOTAL.size + _PLACES * _PLACE_BYTES
_BYTES = _LIST_AT + _LISTED * _DEATH.size
_NOBODY = UUID(int=0)


class Deaths:
    """The list of the dead, and the places of the living. Made in the master, before the fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BYTES)
        #: gunicorn 23 calls the hook in a signal handler, which a second signal may interrupt.
        self._numbers = count()

    def free_place(self, taken: Collection[int]) -> "LifePlace | None":
        """A place that is not among ``taken``; None if there is none."""
        index = next((one for one in range(_PLACES) if one not in taken), None)
        return None if index is None else LifePlace(self, self._memory, index)

    def add(self, process_id: UUID) -> None:
        """The process with this id has ended. Only the master calls this."""
        number = next(self._numbers)
        at = _LIST_AT + number % _LISTED * _DEATH.size
        _DEATH.pack_into(self._memory, at, process_id.bytes, time.monotonic())
        # After the entry, so that a reader does not look too early.
        _TOTAL.pack_into(self._memory, 0, max(self.total, number + 1))

    @property
    def total(self) -> int:
        """How many deaths there were."""
        total: int = _TOTAL.unpack_from(self._memory)[0]
        return total

    def since(self, number: int) -> Mapping[UUID, float]:
        """The deaths from ``number`` on that the list still has: id to moment of death."""
        total = self.total
        found = {}
        for one in range(max(number, total - _LISTED), total):
            name, died_at = _DEATH.unpack_from(self._memory, _LIST_AT + one % _LISTED * _DEATH.size)
            found[UUID(bytes=name)] = died_at
        return found


class LifePlace:
    """The ids of one process."""

    def __init__(self, deaths: Deaths, memory: mmap.mmap, index: int) -> None:
        self._memory = memory
        self._at = _TOTAL.size + index * _PLACE_BYTES
        self.deaths = deaths
        self.index = index

    def note(self, process_id: UUID) -> None:
        """Runs of this process begin under this id from now on."""
        self._write([process_id, *self._ids()][:_IDS])

    def leave(self) -> None:
        """The process has given its lease back, and no run is left. Its end means nothing."""
        self._write([])

    def end(self) -> None:
        """The process has ended. Only the master calls this."""
        for process_id in self._ids():
            self.deaths.add(process_id)
        self.leave()

    def _ids(self) -> list[UUID]:
        found = (
            UUID(bytes=self._memory[at : at + _ID_BYTES])
            for at in range(self._at, self._at + _PLACE_BYTES, _ID_BYTES)
        )
        return [one for one in found if one != _NOBODY]

    def _write(self, ids: list[UUID]) -> None:
        written = b"".join(one.bytes for one in ids).ljust(_PLACE_BYTES, b"\0")
        self._memory[self._at : self._at + _PLACE_BYTES] = written


#: The place of this process. None: no master of ours has started it, so nobody is told of its end.
life_place: ContextVar[LifePlace | None] = ContextVar("headrace_life_place", default=None)
