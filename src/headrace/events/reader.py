"""What follows a run: readers, and how they end.

Publishing never waits for a reader: one that falls behind its bound is cut, the run is not slowed
(N56).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from headrace.events.event import Event
from headrace.lifecycle import Signal


class Cut(Exception):
    """The reader was too slow and has missed events."""


class Moved(Exception):
    """The run goes on, but not here."""


class Released(Exception):
    """The run goes on, but this process does not follow it any more: connect again."""


class Reader(Protocol):
    """One follower's view of a run."""

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        """All events that wait; none when none came in time; None at the end.

        :raises Cut: events were dropped because nobody read.
        :raises Moved, Released: the run goes on elsewhere.
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
        "_bytes",
        "_changed",
        "_closed",
        "_end",
        "_events",
        "_max_bytes",
        "_max_events",
        "_past",
        "_read_stored",
        "_stored_before",
    )

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        past: Sequence[Event] = (),
        after: int = 0,
        read_stored: ReadStored | None = None,
        next_id: int = 1,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._past = list(past)
        self._after = after
        self._read_stored = read_stored
        self._stored_before = past[0].event_id if past else next_id
        self._events: list[Event] = []
        self._bytes = 0
        self._changed = Signal()
        self._closed = False
        self._end: Exception | None = None

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        if page := await self._page():
            return page
        if self._past:
            past, self._past = self._past, []
            return past
        if not self._events and not self._closed:
            self._changed.clear()
            if not await self._changed.wait(timeout_seconds):
                return ()
        if self._events:
            events, self._events = self._events, []
            self._bytes = 0
            return events
        if self._end is not None:
            raise self._end
        return None if self._closed else ()

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
        """Put it behind what waits; too much of that cuts the reader."""
        if self._closed:
            return
        self._events.append(event)
        self._bytes += event.size_bytes
        # A single event over the byte bound still passes: it cannot be split.
        if len(self._events) > self._max_events or (
            self._bytes > self._max_bytes and len(self._events) > 1
        ):
            self._events.clear()
            self._past.clear()
            self._read_stored = None
            self.close(Cut())
        self._changed.set()

    def close(self, end: Exception | None = None) -> None:
        """No more events; what waits is delivered first."""
        if not self._closed:
            self._closed, self._end = True, end
        self._changed.set()
