"""The events of one run in this process: numbered, kept in a ring, and stored if needed.

Events of a resumable run are stored before any reader gets them. So a client that has seen an event
can continue after it on any process. Events of other runs go to readers at once. While another
process watches such a run, its events are also stored. During a commit, further events wait here;
the next commit takes them as one batch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import structlog

from headrace.checkpoints.write_size import least_bytes
from headrace.errors import LeaseLost, RunEventsExceeded
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.reader import ChannelReader, Moved, ReadStored
from headrace.events.reader_buffers import BufferBudget, Cut
from headrace.lifecycle import Signal, Tasks
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.events")

_RETRY_SECONDS = 0.5
#: Encoding a larger event blocks the event loop for long. Other tasks may run after it.
_HEAVY_BYTES = 1024 * 1024

#: Commits events in order. It may raise LeaseLost and Unavailable.
StoreFunction = Callable[[Sequence[Event]], Awaitable[None]]


class Channel:
    """The events of one attempt of a run, from its first event until it ends or moves.

    :param kept: fill the ring even if there is no reader yet.
    :param ids_known: the ids begin at 1, because no earlier attempt can have stored events.
    :param store: stores events; without it, none are stored.
    :param reader_budget: the budget of all readers of the process; without it, the channel has a
        budget of its own.
    """

    # Thousands of runs may be open at once.
    __slots__ = (
        "_budget",
        "_closed",
        "_end",
        "_is_watched",
        "_last_id",
        "_on_closed",
        "_on_lost",
        "_on_stored",
        "_pending",
        "_pending_bytes",
        "_read_stored",
        "_readers",
        "_ring",
        "_ring_bytes",
        "_room",
        "_run_id",
        "_sent_bytes",
        "_sent_events",
        "_settings",
        "_store",
        "_stored_id",
        "_storing",
        "_waited_seconds",
        "_was_heavy",
        "awaited",
        "ids_known",
        "kept",
        "resumable",
        "watched",
    )

    def __init__(
        self,
        settings: EventSettings,
        *,
        resumable: bool = False,
        kept: bool = False,
        ids_known: bool = True,
        store: StoreFunction | None = None,
        read_stored: ReadStored | None = None,
        on_stored: Callable[[int], None] = lambda count: None,
        on_lost: Callable[[], None] = lambda: None,
        on_closed: Callable[[], None] = lambda: None,
        is_watched: Callable[[], Awaitable[bool]] | None = None,
        reader_budget: BufferBudget | None = None,
        run_id: object = "",
    ) -> None:
        self.resumable = resumable
        #: Another process wants the events of the run.
        self.watched = False
        self.kept = kept
        #: Whether the ids of the earlier attempts' events are known. Until then, no reader may
        #: begin after an id: it would miss events that earlier attempts have stored.
        self.ids_known = ids_known
        #: Another process waits for the end of the run.
        self.awaited = False
        self._settings = settings
        self._store = store
        self._read_stored = read_stored
        self._on_stored = on_stored
        self._on_lost = on_lost
        self._on_closed = on_closed
        self._is_watched = is_watched
        self._budget = reader_budget or BufferBudget(settings)
        self._run_id = run_id
        #: How long slow readers have held up the run and its other readers.
        self._waited_seconds = 0.0
        self._was_heavy = False
        self._readers: list[ChannelReader] = []
        self._ring: list[Event] = []
        self._ring_bytes = 0
        self._pending: list[Event] = []
        self._pending_bytes = 0
        self._last_id = 0
        #: What clients get, or what is stored for them; the ring alone does not count.
        self._sent_bytes = 0
        self._sent_events = 0
        self._stored_id = 0
        #: Stores the pending events; None if there are none.
        self._storing: Tasks | None = None
        self._room = Signal()
        self._closed = False
        self._end: Exception | None = None

    @property
    def storing(self) -> bool:
        return self._store is not None and (self.resumable or self.watched)

    @property
    def wanted(self) -> bool:
        """Whether events must be encoded: somebody reads, keeps or stores them."""
        return bool(self._readers) or self.kept or self.storing

    def continue_after(self, event_id: int) -> None:
        """Note that earlier attempts have stored events up to this id."""
        self._last_id = self._stored_id = max(self._last_id, event_id)
        self.ids_known = True

    def subscribe(self, after: int | None = None) -> ChannelReader:
        """A reader that begins with the ring; for a resumable run, after the event ``after``."""
        past, read_stored = list(self._ring), None
        if after is not None and self.resumable:
            past = [event for event in past if event.event_id > after]
            first = self._ring[0].event_id if self._ring else self._delivered_id + 1
            read_stored = self._read_stored if first > max(after, 0) + 1 else None
        reader = ChannelReader(
            self._budget.buffer(self._run_id, on_cut=lambda: self._drop(reader)),
            past=past,
            after=after or 0,
            read_stored=read_stored,
            next_id=self._delivered_id + 1,
        )
        if self._closed:
            reader.close(self._end)
        else:
            self._readers.append(reader)
        return reader

    def unsubscribe(self, reader: ChannelReader) -> None:
        """End a reader: its client has left."""
        self._remove(reader)
        reader.buffer.close()

    def publish(self, name: str, data: Any) -> None:
        """Give an event its number and pass it on. This never waits."""
        storing = self.storing
        if self._closed or not (self._readers or storing or self.kept):
            return
        self._last_id += 1
        if not self._readers and not storing and least_bytes(data) > self._settings.ring_bytes:
            # This event would push all others out of the ring, and then itself. Do not encode it.
            self._ring.clear()
            self._ring_bytes = 0
            return
        event = Event.of(self._last_id, name, data, resumable=self.resumable)
        if self._readers or storing:
            self._sent_events += 1
            self._sent_bytes += event.size_bytes
        self._was_heavy = event.size_bytes > _HEAVY_BYTES
        if storing:
            self._put(event)
            if self.resumable:
                return
        self._deliver(event)

    def check_bounds(self) -> None:
        """:raises RunEventsExceeded: the run has sent as many events, or bytes, as a run may."""
        settings = self._settings
        if self._sent_events > settings.max_run_events:
            raise RunEventsExceeded(
                f"The run has sent {settings.max_run_events} events, as many as"
                " events.max_run_events allows."
            )
        if self._sent_bytes > settings.max_run_bytes:
            raise RunEventsExceeded(
                f"The run has sent {settings.max_run_bytes} bytes of events, as many as"
                " events.max_run_bytes allows. Ask for fewer stream modes, or for updates instead"
                " of values."
            )

    @property
    def full(self) -> bool:
        """Whether the run must call :meth:`room` before its next event."""
        return self._was_heavy or self._budget.exceeded or self._over_bound()

    async def room(self) -> None:
        """Wait until the run may publish more events.

        The run waits for the database without a bound. It waits for its slow readers only while the
        budget of the process is exceeded. While it waits, it holds up its other readers: all such
        waits of a run together last at most ``events.stall_seconds``.
        """
        if self._was_heavy:
            # Encoding the last event has blocked the event loop. The next event may follow at once.
            self._was_heavy = False
            await asyncio.sleep(0)
        while self._over_bound():
            self._room.clear()
            await self._room.wait()
        if self._budget.exceeded:
            await self._room_for_readers()

    def watch(self, wanted: bool) -> None:
        """Begin or stop storing events for another process: first the ring, then all new events."""
        begins, was_storing = wanted and not self.watched, self.storing
        self.watched = wanted
        if not begins or self._store is None or self._closed:
            return
        if was_storing:
            # Stored events were not announced: notify the watcher, which may have looked before.
            self._on_stored(0)
            return
        for event in self._ring:
            if event.event_id > self._stored_id:
                self._put(event)

    async def settle(self) -> None:
        """Wait until all published events are stored, or cannot be. Call this before the run ends.

        A short run may end before the process has read whether another one watches it.
        """
        if self.kept and not self.storing and self._is_watched is not None:
            try:
                self.watch(await self._is_watched())
            except Unavailable as fault:
                _log.warning("watch_not_read", cause=fault.code)
        if self._storing is not None:
            await self._storing.join()

    def close(self, end: Event | None = None) -> None:
        """The run has ended: send ``end``, then no more events."""
        if end is not None:
            for reader in self._readers:
                reader.push(end)
        self._close(None)

    def move(self) -> None:
        """Another process goes on with the run. Readers get waiting events, then :class:`Moved`."""
        self._close(Moved())

    def abandon(self) -> None:
        """Stop storing: the run belongs to another process."""
        self._store = None
        self._drop_pending()

    @property
    def _delivered_id(self) -> int:
        """The id of the last event that readers have got."""
        return self._stored_id if self.resumable else self._last_id

    def _close(self, end: Exception | None) -> None:
        self._closed, self._end = True, end
        for reader in self._readers:
            reader.close(end)
        self._readers.clear()
        if self.kept or self.storing or self.awaited:
            self._on_closed()

    def _deliver(self, event: Event) -> None:
        ring, settings = self._ring, self._settings
        ring.append(event)
        self._ring_bytes += len(event.frame)
        if len(ring) > settings.ring_events or self._ring_bytes > settings.ring_bytes:
            self._shorten_ring()
        for reader in self._readers:
            reader.push(event)

    def _shorten_ring(self) -> None:
        over = 0
        while over < len(self._ring) and (
            len(self._ring) - over > self._settings.ring_events
            or self._ring_bytes > self._settings.ring_bytes
        ):
            self._ring_bytes -= self._ring[over].size_bytes
            over += 1
        del self._ring[:over]

    async def _room_for_readers(self) -> None:
        budget = self._budget
        while budget.exceeded and any(one.buffer.is_over for one in self._readers):
            held_up = any(not one.buffer.is_over for one in self._readers)
            # If no other reader is held up, the timer of the budget ends the wait.
            left = self._settings.stall_seconds - (self._waited_seconds if held_up else 0.0)
            if left <= 0:
                budget.relieve()
                return
            began_at = monotonic()
            await budget.freed(left)
            if held_up:
                self._waited_seconds += monotonic() - began_at

    def _drop(self, reader: ChannelReader) -> None:
        """End a reader that was cut."""
        reader.drop(Cut())
        self._remove(reader)

    def _remove(self, reader: ChannelReader) -> None:
        # A new list: a loop may be passing an event on to the readers in the old one.
        self._readers = [one for one in self._readers if one is not reader]

    def _over_bound(self) -> bool:
        return (
            len(self._pending) >= self._settings.buffer_events
            or self._pending_bytes >= self._settings.buffer_bytes
        )

    def _put(self, event: Event) -> None:
        self._pending.append(event)
        self._pending_bytes += event.size_bytes
        if self._storing is None:
            self._storing = Tasks()
            self._storing.start(self._store_pending(), name="events-store")

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0
        self._room.set()

    def _next_batch(self) -> list[Event]:
        size = count = 0
        for event in self._pending[: self._settings.batch_events]:
            if count and size + event.size_bytes > self._settings.batch_bytes:
                break
            size += event.size_bytes
            count += 1
        batch = self._pending[:count]
        del self._pending[:count]
        self._pending_bytes -= size
        return batch

    async def _store_pending(self) -> None:
        try:
            while self._pending and self._store is not None:
                await self._store_surely(self._next_batch())
                self._room.set()
        finally:
            # Do this before the task ends: otherwise an event in between would not be stored.
            self._storing = None

    async def _store_surely(self, batch: Sequence[Event]) -> None:
        """Repeat while the database is away. Stop when another process has the run."""
        while self._store is not None:
            try:
                await self._store(batch)
            except LeaseLost:
                self.abandon()
                self._on_lost()
            except Unavailable as fault:
                _log.warning("events_delayed", events=len(batch), cause=fault.code)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                _log.exception("events_not_stored", events=len(batch))
                return
            else:
                self._note_stored(batch)
                return

    def _note_stored(self, batch: Sequence[Event]) -> None:
        self._stored_id = batch[-1].event_id
        if self.resumable:
            for event in batch:
                self._deliver(event)
        self._on_stored(len(batch))
