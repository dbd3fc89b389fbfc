"""Events that wait for readers: a buffer for each reader, and one reader budget for a process.

A slow reader is cut for one of two reasons:

- ``stalled``: its buffer is over its bound, and its client has taken nothing for
  ``events.stall_seconds``.
- ``memory``: all buffers together are over ``events.buffer_total_bytes``, and this reader costs
  most.
"""

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic
from weakref import WeakSet

import structlog

from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.json_encoding import PIECE_BYTES
from headrace.lifecycle import Signal

_log = structlog.stdlib.get_logger("headrace.events")

#: Memory that Python needs for an event besides its frame.
_OVERHEAD_BYTES = 200
#: Above this multiple of the budget, readers are cut at once.
_HARD_LIMIT = 2

#: If a reader has taken nothing for ``stall_seconds``, its bytes count about so many times.
_STALL_WEIGHT = 10


class Cut(Exception):
    """The reader was too slow and has missed events."""


class BrokenOff(Cut):
    """The reader was cut in the middle of an event: the body must not be completed."""


class BufferBudget:
    """One per process: counts the bytes that wait for readers.

    An event counts with its frame and 200 bytes more. An event above 256 KiB counts once, however
    many readers wait for it. A smaller event counts for each reader.

    :param on_cut: called with the reason for each reader that is cut.
    """

    def __init__(
        self, settings: EventSettings, *, on_cut: Callable[[str], None] = lambda reason: None
    ) -> None:
        self.settings = settings
        self.bytes = 0
        self.limit_bytes = settings.buffer_total_bytes
        self._on_cut = on_cut
        #: How many readers wait for each large event, by ``id()``. Their buffers keep the event
        #: alive.
        self._shared: dict[int, int] = {}
        self._buffers: WeakSet[ReaderBuffer] = WeakSet()
        self._freed = Signal()
        #: Set while the budget is exceeded.
        self.timer: asyncio.TimerHandle | None = None

    @property
    def exceeded(self) -> bool:
        return self.bytes > self.limit_bytes

    def buffer(
        self, run_id: object = "", *, on_cut: Callable[[], None] = lambda: None
    ) -> "ReaderBuffer":
        """A buffer for a new reader.

        :param run_id: for the log line about a cut.
        :param on_cut: called when this reader is cut.
        """
        buffer = ReaderBuffer(self, run_id, on_cut)
        self._buffers.add(buffer)
        return buffer

    async def freed(self, timeout_seconds: float) -> None:
        """Wait until a reader has taken events or was cut, or until the timeout."""
        self._freed.clear()
        await self._freed.wait(timeout_seconds)

    def relieve(self) -> None:
        """Cut readers until the budget is no longer exceeded."""
        self._cut_to(self.limit_bytes)

    def add_shared(self, event: Event, size_bytes: int) -> None:
        """Count one more reader of this large event."""
        readers = self._shared.get(id(event), 0)
        self._shared[id(event)] = readers + 1
        if not readers:
            self.bytes += size_bytes

    def drop_shared(self, event: Event, size_bytes: int) -> None:
        """Count one reader less of this large event."""
        readers = self._shared[id(event)] - 1
        if readers:
            self._shared[id(event)] = readers
        else:
            del self._shared[id(event)]
            self.bytes -= size_bytes

    def note_excess(self) -> None:
        """Note that an event was added and the budget is exceeded."""
        if self.bytes > _HARD_LIMIT * self.limit_bytes:
            self._cut_to(_HARD_LIMIT * self.limit_bytes)
        if self.timer is None and self.exceeded:
            self.timer = asyncio.get_running_loop().call_later(
                self.settings.stall_seconds, self._expire
            )

    def note_freed(self) -> None:
        """Note that bytes were freed while the timer ran."""
        if self.timer is not None and not self.exceeded:
            self.timer.cancel()
            self.timer = None
        self._freed.set()

    def note_cut(self, buffer: "ReaderBuffer", reason: str) -> None:
        """Count and log a cut."""
        self._on_cut(reason)
        _log.warning(
            "slow_client_cut",
            run_id=str(buffer.run_id),
            reason=reason,
            events=buffer.count,
            bytes=buffer.bytes,
            seconds=round(monotonic() - buffer.moved_at, 1),
        )

    def _cut_to(self, bytes_left: int) -> None:
        """Cut readers until at most ``bytes_left`` wait.

        The reader that costs most is cut first: the more bytes, and the longer its client has taken
        nothing. The last reader stays if it has a single event: otherwise that event could never be
        delivered.
        """
        now = monotonic()
        holders = [one for one in self._buffers if one.bytes]
        patience = self.settings.stall_seconds / _STALL_WEIGHT
        holders.sort(key=lambda one: one.bytes * (1 + (now - one.moved_at) / patience))
        while self.bytes > bytes_left and holders:
            if len(holders) == 1 and holders[0].count <= 1:
                break
            holders.pop().cut("memory")

    def _expire(self) -> None:
        self.timer = None
        if self.exceeded:
            self.relieve()
            self.note_excess()


class ReaderBuffer:
    """The events that wait for one reader, and those that its client is taking."""

    # Thousands of streams may be open at once.
    __slots__ = (
        "__weakref__",
        "_budget",
        "_cut",
        "_frames",
        "_handed",
        "_handed_bytes",
        "_large",
        "_max_bytes",
        "_max_events",
        "_on_cut",
        "_timer",
        "_waiting",
        "bytes",
        "moved_at",
        "run_id",
    )

    def __init__(self, budget: BufferBudget, run_id: object, on_cut: Callable[[], None]) -> None:
        self.run_id = run_id
        self.bytes = 0
        #: When the client last took events, or when the empty buffer got an event.
        self.moved_at = 0.0
        self._budget = budget
        self._on_cut = on_cut
        self._cut = False
        self._waiting: list[Event] = []
        self._handed: list[Event] | None = None
        self._handed_bytes = 0
        #: The frames that are being sent. Only this list may hold them: a cut must free their
        #: memory while the generator of the response still waits for the client.
        self._frames: list[bytes] = []
        #: The number of large events.
        self._large = 0
        self._max_bytes = budget.settings.buffer_bytes
        self._max_events = budget.settings.buffer_events
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """The number of events."""
        return len(self._waiting) + len(self._handed or ())

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether the buffer is over its bound."""
        return self.bytes > self._max_bytes or len(self._waiting) > self._max_events

    def put(self, event: Event) -> None:
        """Append an event."""
        if self._cut:
            return
        self._waiting.append(event)
        self._count(event)

    def next(self) -> list[Event]:
        """Take the events to send next: up to 256 KiB of small ones, or one large event."""
        if self.bytes <= PIECE_BYTES:
            events, self._waiting = self._waiting, []
            self._handed, self._handed_bytes = events, self.bytes
            return events
        count = size = 0
        for event in self._waiting:
            size += _cost(event)
            if count and size > PIECE_BYTES:
                size -= _cost(event)
                break
            count += 1
        events = self._waiting[:count]
        del self._waiting[:count]
        self._handed, self._handed_bytes = events, size
        return events

    def hand_out(self, events: list[Event]) -> list[Event]:
        """Count events that go to the reader before those that wait; returns them.

        :raises Cut: there is no memory for them.
        """
        before, self._handed = self.bytes, []
        for event in events:
            self._handed.append(event)
            self._count(event)
            if self._handed is None:
                raise Cut
        self._handed_bytes = self.bytes - before
        return self._handed

    def settle(self) -> None:
        """Note that the client has taken the events that were handed out.

        :raises Cut: the reader was cut meanwhile.
        """
        handed = self._handed
        if handed is not None:
            self._handed = None
            self._forget(handed, self._handed_bytes)
            if self.bytes:
                # If the buffer is empty, the next event sets this time.
                self.moved_at = monotonic()
        if self._cut:
            raise Cut

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        """Frames as chunks to send. The caller must not use the list afterwards.

        When the caller asks for the next chunk, the client has taken the last one.

        :raises Cut: the reader was cut.
        :raises BrokenOff: it was cut in the middle of a frame.
        """
        if len(frames) == 1 and len(frames[0]) <= PIECE_BYTES:
            yield frames[0]
            return
        self._frames = frames
        frames.reverse()
        while frames:
            if len(frames[-1]) > PIECE_BYTES:
                yield from self._slices()
                continue
            chunk, size = [frames.pop()], 0
            while frames and (size := size + len(chunk[-1])) + len(frames[-1]) <= PIECE_BYTES:
                chunk.append(frames.pop())
            yield b"".join(chunk)
            self.moved_at = monotonic()
            if self._cut:
                raise Cut

    @property
    def was_cut(self) -> bool:
        """Whether events were dropped, because the reader was too slow."""
        return self._cut

    def cut(self, reason: str) -> None:
        """Drop all events. The reader gets :class:`Cut`."""
        if self._cut:
            return
        self._cut = True
        self._budget.note_cut(self, reason)
        self.close()
        self._on_cut()

    def close(self) -> None:
        """Drop all events: the reader is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handed, self._handed = self._handed or [], None
        waiting, self._waiting = self._waiting, []
        self._forget(handed + waiting, self.bytes)
        # A generator that waits for its client refers to this list: free the events now.
        handed.clear()
        self._frames.clear()

    def _slices(self) -> Iterator[bytes]:
        """The last frame, piece by piece. No variable holds it while a client is slow."""
        size = len(self._frames[-1])
        for first in range(0, size, PIECE_BYTES):
            yield self._frames[-1][first : first + PIECE_BYTES]
            self.moved_at = monotonic()
            if self._cut:
                raise BrokenOff if first + PIECE_BYTES < size else Cut
        self._frames.pop()

    def _count(self, event: Event) -> None:
        budget = self._budget
        size = len(event.frame) + _OVERHEAD_BYTES
        if not self.bytes:
            self.moved_at = monotonic()
        self.bytes += size
        if size > PIECE_BYTES:
            self._large += 1
            budget.add_shared(event, size)
        else:
            budget.bytes += size
        if (
            self.bytes > self._max_bytes or len(self._waiting) > self._max_events
        ) and self._timer is None:
            self._look_after(budget.settings.stall_seconds)
        if budget.bytes > budget.limit_bytes:
            budget.note_excess()

    def _forget(self, events: list[Event], size_bytes: int) -> None:
        self.bytes -= size_bytes
        if self._large:
            for event in events:
                if (size := _cost(event)) > PIECE_BYTES:
                    self._large -= 1
                    size_bytes -= size
                    self._budget.drop_shared(event, size)
        budget = self._budget
        budget.bytes -= size_bytes
        if budget.timer is not None:
            budget.note_freed()

    def _look_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Cut the reader if it is over its bound and has made no progress."""
        self._timer = None
        if not self.is_over:
            return
        left = self.moved_at + self._budget.settings.stall_seconds - monotonic()
        if left > 0:
            self._look_after(left)
        else:
            self.cut("stalled")

    def __del__(self) -> None:
        # For a stream that was never sent.
        self.close()


def _cost(event: Event) -> int:
    return len(event.frame) + _OVERHEAD_BYTES
