"""Readers of a run's events, and how they end.

A run does not wait for a reader when it publishes an event. A slow reader is cut
(``reader_buffers.py``).
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Literal, Protocol

from headrace.events.event import Event
from headrace.events.reader_buffers import ReaderBuffer
from headrace.lifecycle import Signal

#: Why an answer ended without its proper end: the process drains, the client took it too slowly,
#: something failed, or the client has left.
CutReason = Literal["drain", "slow_client", "fault", "client_left"]


class Moved(Exception):
    """Another process goes on with the run."""


class FollowingStopped(Exception):
    """The run goes on, but this process no longer follows it: the client must reconnect.

    :param reason: ``drain``, ``fault`` (the run or thread cannot be read here) or ``slow_client``.
    """

    def __init__(self, reason: CutReason = "drain") -> None:
        super().__init__(reason)
        self.reason = reason


class Ending:
    """Why a stream was cut whose body is completed all the same; else ``cut`` is empty."""

    __slots__ = ("cut",)

    def __init__(self) -> None:
        self.cut: CutReason | Literal[""] = ""

    def note(self, reason: CutReason) -> None:
        """The chunks end here, before their proper end."""
        self.cut = reason


class EventReader(Protocol):
    """Reads the events of a run for one client."""

    @property
    def was_cut(self) -> bool:
        """Whether events were dropped, because the client was too slow."""

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        """The waiting events; empty if none came in time; None at the end.

        A second call means that the client has taken the events of the first call.

        :raises Cut: the reader was too slow, and events were dropped.
        :raises Moved: another process goes on with the run.
        :raises FollowingStopped: this process no longer follows the run.
        """

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        """Frames of events that were read, as chunks to send.

        The caller must not use the list afterwards. When it asks for the next chunk, the client has
        taken the last one.

        :raises Cut: the reader was cut.
        :raises BrokenOff: it was cut in the middle of a frame.
        """


#: Reads a page of the stored events between two ids.
ReadStored = Callable[[int, int], Awaitable[Sequence[Event]]]


class ChannelReader:
    """Reads the events of a run in this process: stored events, then the ring, then new events.

    :param past: the events of the ring to deliver.
    :param after: the id after which ``read_stored`` reads.
    :param read_stored: reads stored events; None: they are not needed.
    :param next_id: without ``past``, stored events are read up to this id, exclusive.
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

    @property
    def was_cut(self) -> bool:
        return self.buffer.was_cut

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
        """Append an event."""
        if not self._closed:
            self.buffer.put(event)
            self._changed.set()

    def close(self, end: Exception | None = None) -> None:
        """No more events come. The waiting ones are delivered first."""
        if not self._closed:
            self._closed, self._end = True, end
        self._changed.set()

    def drop(self, end: Exception) -> None:
        """No more events come, and the waiting ones are dropped: the reader was cut."""
        self._past.clear()
        self._read_stored = None
        self._closed, self._end = True, end
        self._changed.set()
