"""What follows a run: readers, and how they end.

Publishing never waits for a reader. One that is behind its bound and takes nothing is cut
(``backlog.py``).
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from headrace.events.event import Event
from headrace.events.reader_buffers import ReaderBuffer
from headrace.lifecycle import Signal


class Moved(Exception):
    """The run goes on, but not here."""


class Released(Exception):
    """The run goes on, but this process does not follow it any more: connect again."""


class Reader(Protocol):
    """One follower's view of a run."""

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        """Events that wait; none when none came in time; None at the end.

        To ask for more says that the client has taken what was read before.

        :raises Cut: events were dropped because nobody read.
        :raises Moved, Released: the run goes on elsewhere.
        """

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        """Frames of events that were read, as chunks to send; takes the list over.

        To ask for the next chunk says that the client has taken the one before.

        :raises Cut: the reader was cut; :class:`BrokenOff` in the midst of a frame.
        """


#: Stored events after an id and before another, a page of them.
ReadStored = Callable[[int, int], Awaitable[Sequence[Event]]]


class ChannelReader:
    """Reads what a run in this process tells: first what is stored, then the ring, then the rest.

    :param past: what the ring holds; all of it is delivered.
    :param after: with ``read_stored``, the id after which stored events are wanted.
    """

    __slots__ = (
        "_after",
        "_changed",
        "_closed",
        "_end",
        "_past",
        "_read_stored",
        "_stored_before",
        "buffer",
    )

    def __init__(
        self,
        buffer: ReaderBuffer,
        *,
        past: Sequence[Event] = (),
        after: int = 0,
        read_stored: ReadStored | None = None,
        next_id: int = 1,
    ) -> None:
        self.buffer = buffer
        self._past = list(past)
        self._after = after
        self._read_stored = read_stored
        self._stored_before = past[0].event_id if past else next_id
        self._changed = Signal()
        self._closed = False
        self._end: Exception | None = None

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        buffer = self.buffer
        buffer.settle()
        if page := await self._page():
            return buffer.hand_out(list(page))
        if self._past:
            past, self._past = self._past, []
            return buffer.hand_out(past)
        if not buffer.waiting and not self._closed:
            self._changed.clear()
            if not await self._changed.wait(timeout_seconds):
                return ()
        if buffer.waiting:
            return buffer.next()
        if self._end is not None:
            raise self._end
        return None if self._closed else ()

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        return self.buffer.pieces(frames)

    async def _page(self) -> Sequence[Event]:
        if self._read_stored is None:
            return ()
        page = await self._read_stored(self._after, self._stored_before)
        if page:
            self._after = page[-1].event_id
        else:
            self._read_stored = None
        return page

    def push(self, event: Event) -> None:
        """Put it behind what waits."""
        if not self._closed:
            self.buffer.put(event)
            self._changed.set()

    def close(self, end: Exception | None = None) -> None:
        """No more events; what waits is delivered first."""
        if not self._closed:
            self._closed, self._end = True, end
        self._changed.set()

    def drop(self, end: Exception) -> None:
        """No more events, and what waits is not delivered: the reader was cut."""
        self._past.clear()
        self._read_stored = None
        self._closed, self._end = True, end
        self._changed.set()
