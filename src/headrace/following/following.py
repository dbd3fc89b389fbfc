"""Following a run wherever it is executed, from its beginning, its end, or an event between.

In this process it is fed from memory, otherwise by the watcher; a run that is released, rescued or
claimed elsewhere is followed on. The end comes from the run's row.

What a run that is not resumable tells is stored only while somebody watches it, and a process that
was paused watches nothing. A reader that has missed something is told so before the end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from headrace.checkpoints.answer_memory import AnswerMemory, Reading
from headrace.errors import AnswersFull, AnswerTooLarge
from headrace.event_settings import EventSettings
from headrace.events.channel import Channel
from headrace.events.event import Event, end_event, gap_event, last_values_event
from headrace.events.reader import ChannelReader, EventReader, Moved, Released
from headrace.events.reader_buffers import BufferBudget
from headrace.following.run_watcher import GONE, IfEnded, RunState, Watch, Watcher
from headrace.queue.rows import LocalRun, RunOutcome
from headrace.request_settings import AnswerSettings


@dataclass(frozen=True, slots=True)
class Followable:
    """What must be known of a run to follow it."""

    run_id: UUID
    thread_id: str
    graph_id: str
    tenant: str
    resumable: bool
    #: It has a thread of its own, which goes soon after it.
    temporary: bool = False
    #: It was made by an earlier try of the request.
    repeated: bool = False


class ReadValues(Protocol):
    async def __call__(
        self, thread_id: str, graph_id: str, run_id: UUID, reading: Reading, *, output: bool
    ) -> Any:
        """The values a run has left in its thread; None when there are none.

        :param output: what its graph's output schema names alone.
        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        ...


#: Ask a run elsewhere to stop; returns at once.
AskToStop = Callable[[Followable, str], None]


#: A row is looked at sooner than that.
_LOOK_SECONDS = 10.0


class Following:
    """One per process: gives out :class:`Followed`, and lets go of all runs elsewhere at once."""

    def __init__(
        self,
        watcher: Watcher,
        *,
        local: Callable[[UUID], LocalRun | None],
        read_values: ReadValues,
        ask_to_stop: AskToStop,
        memory: AnswerMemory | None = None,
        reader_budget: BufferBudget | None = None,
    ) -> None:
        self.memory = memory or AnswerMemory(AnswerSettings())
        self.reader_budget = reader_budget or BufferBudget(EventSettings())
        self.watcher = watcher
        self.local = local
        self.read_values = read_values
        self.ask_to_stop = ask_to_stop
        self.released = False
        self._watches: set[Watch] = set()

    def follow(
        self,
        run: Followable,
        *,
        created: bool = False,
        local: LocalRun | None = None,
        queued: bool = False,
    ) -> "Followed":
        """Follow a run that the caller may see.

        :param created: by the caller, who wants to know how it ended, however soon it did.
        :param local: the run itself where it was started in place.
        :param queued: it was put into the queue: whoever claims it tells its end to all.
        """
        return Followed(self, run, local or self.local(run.run_id), created=created, queued=queued)

    def release(self) -> None:
        """The process drains: runs elsewhere are not followed any more from here."""
        self.released = True
        for watch in self._watches:
            watch.changed.set()

    def watch(self, watch: Watch) -> None:
        self._watches.add(watch)
        self.watcher.add(watch)

    def unwatch(self, watch: Watch) -> None:
        self._watches.discard(watch)
        self.watcher.remove(watch)

    async def changed(self, watch: Watch, timeout_seconds: float) -> bool:
        """Wait for news; False when there are none in time.

        :raises Released: this process does not follow any more.
        """
        if not watch.waiting and not watch.complete:
            if self.released or watch.failed:
                raise Released
            watch.changed.clear()
            if not await watch.changed.wait(timeout_seconds):
                return False
            if watch.failed:
                raise Released
        return watch.waiting or watch.complete


class Followed:
    """Implements :class:`headrace.queue.rows.FollowedRun`."""

    __slots__ = ("_created", "_following", "_local", "_outcome", "_queued", "_run", "_state")

    def __init__(
        self,
        following: Following,
        run: Followable,
        local: LocalRun | None,
        *,
        created: bool,
        queued: bool,
    ) -> None:
        self._following = following
        self._run = run
        self._local = local
        self._created = created
        self._queued = queued
        self._outcome: RunOutcome | None = None
        self._state: RunState | None = None

    @property
    def run_id(self) -> UUID:
        return self._run.run_id

    @property
    def thread_id(self) -> str:
        return self._run.thread_id

    @property
    def repeated(self) -> bool:
        return self._run.repeated

    def subscribe(self, after: int | None = None) -> EventReader:
        return FollowingReader(
            self._following, self._run, self._local, after=after, created=self._created
        )

    def unsubscribe(self, reader: EventReader) -> None:
        if isinstance(reader, FollowingReader):
            reader.close()

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """:raises Released: it goes on, but this process lets go of whoever waits."""
        if self._local is not None:
            try:
                outcome = await self._local.outcome(timeout_seconds)
            except Moved:
                self._local = None
            else:
                return outcome if outcome is None or self._created else await self._whole(outcome)
        if self._outcome is None:
            state = await self._end(timeout_seconds)
            if state is not None:
                self._outcome = await self._read_outcome(state)
        return self._outcome

    async def ended(self, timeout_seconds: float) -> bool:
        """:raises Released: as :meth:`outcome`."""
        if self._local is not None:
            try:
                return await self._local.outcome(timeout_seconds) is not None
            except Moved:
                self._local = None
        return self._outcome is not None or await self._end(timeout_seconds) is not None

    async def _end(self, timeout_seconds: float) -> RunState | None:
        """What its row says once it has ended; it may be asked again."""
        if self._state is None:
            watch = Watch(self._run.run_id, announced=self._queued)
            self._following.watch(watch)
            try:
                if await self._following.changed(watch, timeout_seconds) and watch.state:
                    self._state = watch.state
            finally:
                self._following.unwatch(watch)
        return self._state

    def cancel(self, reason: str) -> None:
        if self._local is not None:
            self._local.cancel(reason)
        else:
            self._following.ask_to_stop(self._run, reason)

    async def _whole(self, outcome: RunOutcome) -> RunOutcome:
        """With the whole state: its process knows what the output schema names alone."""
        if outcome.error is not None and outcome.status != "interrupted":
            return outcome
        reading = self._following.memory.reading()
        values = await self._read_values(reading)
        # None: its thread is gone with it.
        return outcome if values is None else replace(outcome, values=values, reading=reading)

    async def _read_values(self, reading: Reading) -> Any:
        run = self._run
        return await self._following.read_values(
            run.thread_id, run.graph_id, run.run_id, reading, output=self._created
        )

    async def _read_outcome(self, state: RunState) -> RunOutcome:
        if state is GONE:
            # Rolled back, or deleted with its thread.
            return self._gone
        reading = self._following.memory.reading()
        values = await self._read_values(reading)
        if values is None and state.status == "success" and await self._is_gone():
            return self._gone
        return RunOutcome(status=state.status, values=values, error=state.error, reading=reading)

    @property
    def _gone(self) -> RunOutcome:
        # One on a lasting thread has been rolled back, or deleted by somebody.
        forgotten = self._run.temporary or self._run.repeated
        return RunOutcome(status="interrupted", values=None, error=None, forgotten=forgotten)

    async def _is_gone(self) -> bool:
        """Whether it went after its row was read."""
        self._state = None
        return await self._end(_LOOK_SECONDS) is GONE


class FollowingReader:
    """Implements :class:`headrace.events.reader.Reader`; changes over when the run moves.

    Ids rise across attempts, so the last one seen is where reading goes on, wherever that is.
    """

    __slots__ = (
        "_buffer",
        "_channel",
        "_ended",
        "_following",
        "_follows",
        "_gap",
        "_position",
        "_reader",
        "_run",
        "_watch",
    )

    def __init__(
        self,
        following: Following,
        run: Followable,
        local: LocalRun | None,
        *,
        after: int | None,
        created: bool,
    ) -> None:
        self._following = following
        self._run = run
        self._position = max(after or 0, 0)
        self._ended = False
        #: Whether it is to get all that comes after its position.
        self._follows = created
        #: Whether it has missed something of that.
        self._gap = False
        self._channel: Channel | None = None
        self._reader: ChannelReader | None = None
        self._watch: Watch | None = None
        #: Of a run elsewhere: the page that is being sent.
        self._buffer = following.reader_budget.buffer(run.run_id)
        if local is not None:
            self._channel = local.channel
            self._reader = local.channel.subscribe(after)
            return
        if_ended: IfEnded = (
            "tell" if created or (after is not None and run.resumable) else "nothing"
        )
        if after is not None and if_ended == "nothing":
            if_ended = "tell_stored"
        # Who names no id wants what is to come; of a run that is not resumable, the ring besides.
        live = after is None and run.resumable and not created
        self._watch_from(None if live else self._position, if_ended)

    async def read(self, timeout_seconds: float) -> Sequence[Event] | None:
        if self._reader is not None:
            try:
                events = await self._reader.read(timeout_seconds)
            except Moved:
                self._leave_channel()
                self._follows = True
                self._watch_from(self._position, "tell")
            else:
                self._note(events or ())
                return events
        return await self._read_watched(timeout_seconds)

    def pieces(self, frames: list[bytes]) -> Iterator[bytes]:
        buffer = self._buffer if self._reader is None else self._reader.buffer
        return buffer.pieces(frames)

    def close(self) -> None:
        """Nobody reads any more."""
        self._leave_channel()
        self._buffer.close()
        if self._watch is not None:
            self._following.unwatch(self._watch)

    async def _read_watched(self, timeout_seconds: float) -> Sequence[Event] | None:
        watch = self._watch
        assert watch is not None
        self._buffer.settle()
        if watch.paused:
            watch.paused = False
            self._following.watcher.look()
        if not await self._following.changed(watch, timeout_seconds):
            return ()
        if watch.waiting:
            page = watch.take()
            events = self._buffer.hand_out([*self._with_gap(page)])
            self._note(events)
            # Notices that came while they waited were passed over.
            self._following.watcher.look()
            return events
        state = watch.state
        if self._ended or watch.late or state is None or state is GONE:
            return None
        try:
            before_end = await self._before_end(state)
        except AnswersFull:
            # It is read again.
            return ()
        self._ended = True
        return [*before_end, end_event(self._run.run_id, state.status, state.error)]

    def _with_gap(self, events: list[Event]) -> list[Event]:
        """The events, behind word of what is missing before the first of them."""
        first = events[0].event_id
        next_attempt = ((self._position >> 32) + 1) << 32
        expected = (self._position + 1, next_attempt + 1)
        if self._run.resumable or not self._follows or first in expected:
            return events
        self._gap = True
        return [gap_event(self._run.run_id), *events]

    async def _before_end(self, state: RunState) -> list[Event]:
        """Where something is missing: word of that, and what the run has left.

        :raises AnswersFull: there is no memory for that now.
        """
        run = self._run
        missing = not run.resumable and self._follows and not state.watched
        if not missing and not self._gap:
            return []
        told = [gap_event(run.run_id)] if missing else []
        try:
            with self._following.memory.reading() as reading:
                values = await self._following.read_values(
                    run.thread_id, run.graph_id, run.run_id, reading, output=True
                )
                return told if values is None else [*told, last_values_event(values)]
        except AnswerTooLarge:
            return told

    def _watch_from(self, after: int | None, if_ended: IfEnded) -> None:
        self._watch = Watch(
            self._run.run_id,
            after=after,
            events=True,
            resumable=self._run.resumable,
            if_ended=if_ended,
        )
        self._following.watch(self._watch)

    def _note(self, events: Sequence[Event]) -> None:
        for event in events:
            self._follows = True
            self._position = max(self._position, event.event_id)
            # Only the end has that name, and that of a run that was deleted is stored.
            self._ended |= event.name == "error"

    def _leave_channel(self) -> None:
        if self._channel is not None and self._reader is not None:
            self._channel.unsubscribe(self._reader)
        self._channel = self._reader = None
