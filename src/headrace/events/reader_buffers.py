"""Events that wait for readers: a buffer for each reader, and one budget for all of a process.

A reader that is behind is cut for one of two reasons. ``stalled``: its buffer is over its bound,
and its client has taken nothing for ``events.stall_seconds``. ``memory``: all buffers together are
over ``events.buffer_total_bytes``, and this reader costs most.
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

#: What Python needs for an event beside its bytes.
_OVERHEAD_BYTES = 200
#: Above this multiple of the budget readers are cut at once, without waiting for progress.
_HARD_LIMIT = 2

#: A reader that has taken nothing for all of ``stall_seconds`` counts so many times its bytes.
_STALL_WEIGHT = 10


class Cut(Exception):
    """The reader was too slow and has missed events."""


class BrokenOff(Cut):
    """The reader was cut while a part of an event was sent: the body must not be completed."""


class BufferBudget:
    """One per process: counts what waits for its readers.

    An event above 256 KiB counts once, however many readers wait for it. A smaller one counts for
    each reader, and 200 bytes more.

    :param on_cut: called with the reason whenever a reader is cut.
    """

    def __init__(
        self, settings: EventSettings, *, on_cut: Callable[[str], None] = lambda reason: None
    ) -> None:
        self.settings = settings
        self.bytes = 0
        self.limit_bytes = settings.buffer_total_bytes
        self._on_cut = on_cut
        #: By id of a large event: how many readers wait for it. Their buffers keep it alive.
        self._shared: dict[int, int] = {}
        self._buffers: WeakSet[ReaderBuffer] = WeakSet()
        self._freed = Signal()
        #: Runs while the budget is exceeded.
        self.timer: asyncio.TimerHandle | None = None

    @property
    def exceeded(self) -> bool:
        return self.bytes > self.limit_bytes

    def buffer(
        self, run_id: object = "", *, on_cut: Callable[[], None] = lambda: None
    ) -> "ReaderBuffer":
        """A buffer for a new reader.

        :param run_id: named in the log when the reader is cut.
        :param on_cut: called when that happens.
        """
        buffer = ReaderBuffer(self, run_id, on_cut)
        self._buffers.add(buffer)
        return buffer

    async def freed(self, timeout_seconds: float) -> None:
        """Return once something was taken or cut, or the time is over."""
        self._freed.clear()
        await self._freed.wait(timeout_seconds)

    def relieve(self) -> None:
        """Cut readers until the budget holds."""
        self._cut_to(self.limit_bytes)

    def add_shared(self, event: Event, size_bytes: int) -> None:
        """One reader more waits for this large event."""
        readers = self._shared.get(id(event), 0)
        self._shared[id(event)] = readers + 1
        if not readers:
            self.bytes += size_bytes

    def drop_shared(self, event: Event, size_bytes: int) -> None:
        """One reader less waits for it."""
        readers = self._shared[id(event)] - 1
        if readers:
            self._shared[id(event)] = readers
        else:
            del self._shared[id(event)]
            self.bytes -= size_bytes

    def note_excess(self) -> None:
        """Something was added and the budget is exceeded."""
        if self.bytes > _HARD_LIMIT * self.limit_bytes:
            self._cut_to(_HARD_LIMIT * self.limit_bytes)
        if self.timer is None and self.exceeded:
            self.timer = asyncio.get_running_loop().call_later(
                self.settings.stall_seconds, self._expire
            )

    def note_freed(self) -> None:
        """Something was given back while the timer ran."""
        if self.timer is not None and not self.exceeded:
            self.timer.cancel()
            self.timer = None
        self._freed.set()

    def note_cut(self, buffer: "ReaderBuffer", reason: str) -> None:
        """Tell the log and the metrics."""
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
        """Cut readers until all wait for so many bytes.

        First the reader with the largest product of bytes and time without progress. The last
        one stays when it waits for a single event: that event could never be delivered otherwise.
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
    """What waits for one reader, and what it was handed and its client has not taken yet."""

    # Thousands of streams may be open at once.
    __slots__ = (
        "__weakref__",
        "_backlog",
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

    def __init__(self, backlog: BufferBudget, run_id: object, on_cut: Callable[[], None]) -> None:
        self.run_id = run_id
        self.bytes = 0
        #: When the client took something last, or the buffer ceased to be empty.
        self.moved_at = 0.0
        self._backlog = backlog
        self._on_cut = on_cut
        self._cut = False
        self._waiting: list[Event] = []
        self._handed: list[Event] | None = None
        self._handed_bytes = 0
        #: Frames that are being sent. Only the buffer may keep them: a cut must free them while
        #: the generator of the response waits for its client.
        self._frames: list[bytes] = []
        #: How many of the events are large.
        self._large = 0
        self._max_bytes = backlog.settings.buffer_bytes
        self._max_events = backlog.settings.buffer_events
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """Events in it."""
        return len(self._waiting) + len(self._handed or ())

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether the reader is further behind than its bound."""
        return self.bytes > self._max_bytes or len(self._waiting) > self._max_events

    def put(self, event: Event) -> None:
        """Add an event behind those that wait."""
        if self._cut:
            return
        self._waiting.append(event)
        self._count(event)

    def next(self) -> list[Event]:
        """Take out the events to send next: up to 256 KiB of small ones, or a large one."""
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
        """Count events that go to the reader past those that wait; returns them.

        :raises Cut: there is no room for them.
        """
        before, self._handed = self.bytes, []
        for event in events:
            self._handed.append(event)
            self._count(event)
            if self._handed is None:
                # It was cut.
                raise Cut
        self._handed_bytes = self.bytes - before
        return self._handed

    def settle(self) -> None:
        """Note that the client has taken what was handed out.

        :raises Cut: it was cut meanwhile.
        """
        handed = self._handed
        if handed is not None:
            self._handed = None
            self._forget(handed, self._handed_bytes)
            if self.bytes:
                # Otherwise the next event sets it.
                self.moved_at = monotonic()
        if self._cut:
            raise Cut

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        """Frames as chunks to send; takes the list over.

        To ask for the next chunk says that the client has taken the one before.

        :raises Cut: the reader was cut; :class:`BrokenOff` in the midst of a frame.
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

    def cut(self, reason: str) -> None:
        """Drop everything; the reader is told :class:`Cut`."""
        if self._cut:
            return
        self._cut = True
        self._backlog.note_cut(self, reason)
        self.close()
        self._on_cut()

    def close(self) -> None:
        """Give everything back: nobody reads any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handed, self._handed = self._handed or [], None
        waiting, self._waiting = self._waiting, []
        self._forget(handed + waiting, self.bytes)
        # Who waits for the client refers to this list.
        handed.clear()
        self._frames.clear()

    def _slices(self) -> Iterator[bytes]:
        """The last of the frames, piece by piece; no variable keeps it while a client is slow."""
        size = len(self._frames[-1])
        for first in range(0, size, PIECE_BYTES):
            yield self._frames[-1][first : first + PIECE_BYTES]
            self.moved_at = monotonic()
            if self._cut:
                raise BrokenOff if first + PIECE_BYTES < size else Cut
        self._frames.pop()

    def _count(self, event: Event) -> None:
        backlog = self._backlog
        size = len(event.frame) + _OVERHEAD_BYTES
        if not self.bytes:
            self.moved_at = monotonic()
        self.bytes += size
        if size > PIECE_BYTES:
            self._large += 1
            backlog.add_shared(event, size)
        else:
            backlog.bytes += size
        if (
            self.bytes > self._max_bytes or len(self._waiting) > self._max_events
        ) and self._timer is None:
            self._look_after(backlog.settings.stall_seconds)
        if backlog.bytes > backlog.limit_bytes:
            backlog.note_excess()

    def _forget(self, events: list[Event], size_bytes: int) -> None:
        self.bytes -= size_bytes
        if self._large:
            for event in events:
                if (size := _cost(event)) > PIECE_BYTES:
                    self._large -= 1
                    size_bytes -= size
                    self._backlog.drop_shared(event, size)
        backlog = self._backlog
        backlog.bytes -= size_bytes
        if backlog.timer is not None:
            backlog.note_freed()

    def _look_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Cut a reader that is over its bound and has not moved."""
        self._timer = None
        if not self.is_over:
            return
        left = self.moved_at + self._backlog.settings.stall_seconds - monotonic()
        if left > 0:
            self._look_after(left)
        else:
            self.cut("stalled")

    def __del__(self) -> None:
        # Of a stream that was never sent.
        self.close()


def _cost(event: Event) -> int:
    return len(event.frame) + _OVERHEAD_BYTES
