"""One run as a client follows it, in whichever process it is executed: its end and its events.

The events of a run in this process come from memory, those of a run in another process through the
watcher. When a run moves (another process rescues or claims it), following goes on. The end comes
from the run's row.

The events of a run that is not resumable are stored only while another process watches the run. A
process that stands still (SIGSTOP, a frozen machine) watches nothing. A reader that has missed
events gets an event that says so, before the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

from headrace.checkpoints.answer_memory import Reading
from headrace.db.tables import RunRow
from headrace.errors import AnswerTooLarge
from headrace.events.channel import Channel
from headrace.events.event import Event, end_event, gap_event, last_values_event
from headrace.events.reader import ChannelReader, EventReader, Moved
from headrace.following.following import Following
from headrace.following.run_watcher import GONE, IfEnded, RunState, Watch
from headrace.queue.rows import RunOutcome, RunRequest
from headrace.unavailable_errors import AnswersFull

#: The watcher reads a row within a second. So this time passes only while the database is away.
_LOOK_SECONDS = 10.0


class LocalRun(Protocol):
    """A run that this process executes; the worker's ``Execution`` is one."""

    @property
    def channel(self) -> Channel: ...

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """How the run ended; None if it still runs after the timeout.

        :raises Moved: the run goes on in another process.
        """
        ...


@dataclass(eq=False, slots=True, kw_only=True)
class FollowedRun:
    """A run that the caller may see, with what is known of its end.

    :ivar temporary: its thread was made for this run, and is deleted soon after the run.
    :ivar repeated: an earlier try of the request has made the run.
    :ivar created: the caller has made or stopped the run. It must learn the end, however soon the
        end came.
    :ivar queued: the run was put into the queue: the process that claims it announces its end.
    :ivar local: the run itself, while this process executes it.
    """

    following: Following
    run_id: UUID
    thread_id: str
    graph_id: str
    tenant: str
    resumable: bool
    temporary: bool = False
    repeated: bool = False
    created: bool = False
    queued: bool = False
    local: LocalRun | None = None
    _outcome: RunOutcome | None = field(default=None, init=False)
    _state: RunState | None = field(default=None, init=False)

    @classmethod
    def of(
        cls,
        following: Following,
        run: RunRow | RunRequest,
        *,
        local: LocalRun | None = None,
        created: bool = False,
        queued: bool = False,
        repeated: bool = False,
    ) -> "FollowedRun":
        """The run of a row, or of a request that was just submitted."""
        return cls(
            following=following,
            run_id=run.run_id,
            thread_id=run.thread_id,
            graph_id=run.graph_id,
            tenant=run.tenant,
            resumable=bool(run.kwargs.get("resumable")),
            temporary=bool(run.kwargs.get("temporary")),
            repeated=repeated,
            created=created,
            queued=queued,
            local=local,
        )

    def subscribe(self, after: int | None = None) -> "RunReader":
        """Follow the events of the run.

        :param after: -1: all events. A number: the events after that id. None: a caller that has
            made the run, and subscribes before its first wait, gets all events; other callers get
            the events that are still in memory, and then the events to come.
        """
        return RunReader(self, after)

    def unsubscribe(self, reader: EventReader) -> None:
        if isinstance(reader, RunReader):
            reader.close()

    async def outcome(self, timeout_seconds: float) -> RunOutcome | None:
        """How the run ended, once its row says so; None when it still runs after the timeout.

        :raises FollowingStopped: the run goes on, but this process stops following it.
        :raises AnswerTooLarge: its values are larger than any answer may be.
        :raises AnswersFull: there is no memory for its values now.
        """
        if self.local is not None:
            try:
                outcome = await self.local.outcome(timeout_seconds)
            except Moved:
                self.local = None
            else:
                return outcome if outcome is None or self.created else await self._whole(outcome)
        if self._outcome is None:
            state = await self._end(timeout_seconds)
            if state is not None:
                self._outcome = await self._read_outcome(state)
        return self._outcome

    async def ended(self, timeout_seconds: float) -> bool:
        """Whether the run has ended; its values are not read.

        :raises FollowingStopped: as :meth:`outcome`.
        """
        if self.local is not None:
            try:
                return await self.local.outcome(timeout_seconds) is not None
            except Moved:
                self.local = None
        return self._outcome is not None or await self._end(timeout_seconds) is not None

    async def values(self, reading: Reading, *, output: bool) -> Any:
        """The values that the run has left in its thread; None when it has left none.

        :param output: only the values that the output schema of its graph names.
        :raises AnswerTooLarge, AnswersFull: as :meth:`Reading.admit`.
        """
        return await self.following.states.values_of_run(
            self.thread_id, self.graph_id, self.run_id, reading, output=output
        )

    async def _end(self, timeout_seconds: float) -> RunState | None:
        """What the run's row says once the run has ended; None after the timeout."""
        if self._state is None:
            watch = Watch(self.run_id, announced=self.queued)
            self.following.watch(watch)
            try:
                if await self.following.changed(watch, timeout_seconds) and watch.state:
                    self._state = watch.state
            finally:
                self.following.unwatch(watch)
        return self._state

    async def _whole(self, outcome: RunOutcome) -> RunOutcome:
        """The outcome with the whole state: the worker knows only what the output schema names."""
        if outcome.error is not None and outcome.status != "interrupted":
            return outcome
        reading = self.following.memory.reading()
        values = await self.values(reading, output=False)
        if values is None and self.temporary:
            # The thread was deleted after the run.
            return outcome
        # None: the run was rolled back, or deleted with its thread, as it looks from elsewhere.
        return replace(outcome, values=values, reading=reading)

    async def _read_outcome(self, state: RunState) -> RunOutcome:
        if state is GONE:
            # Rolled back, or deleted with its thread.
            return self.gone
        reading = self.following.memory.reading()
        values = await self.values(reading, output=self.created)
        if values is None and state.status == "success" and await self._is_gone():
            return self.gone
        return RunOutcome(status=state.status, values=values, error=state.error, reading=reading)

    @property
    def gone(self) -> RunOutcome:
        """How a run ended whose row is gone."""
        # A run on a lasting thread was rolled back, or somebody has deleted it.
        forgotten = self.temporary or self.repeated
        return RunOutcome(status="interrupted", values=None, error=None, forgotten=forgotten)

    async def _is_gone(self) -> bool:
        """Whether the run's row was deleted after this process had read it."""
        self._state = None
        return await self._end(_LOOK_SECONDS) is GONE


class RunReader:
    """Implements :class:`headrace.events.reader.EventReader`, also for a run that moves.

    Ids rise from attempt to attempt. So the reader goes on after the last id that it has read, in
    any process.

    :param after: as :meth:`FollowedRun.subscribe`.
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

    def __init__(self, run: FollowedRun, after: int | None) -> None:
        self._run = run
        self._following = run.following
        self._position = max(after or 0, 0)
        self._ended = False
        #: Whether the reader must get all events after its position.
        self._follows = run.created
        #: Whether the reader has missed some of them.
        self._gap = False
        self._channel: Channel | None = None
        self._reader: ChannelReader | None = None
        self._watch: Watch | None = None
        #: For a run that another process executes: the page that is being sent.
        self._buffer = run.following.reader_budget.buffer(run.run_id)
        if run.local is not None:
            self._channel = run.local.channel
            self._reader = self._channel.subscribe(after)
            return
        if_ended: IfEnded = (
            "tell" if run.created or (after is not None and run.resumable) else "nothing"
        )
        if after is not None and if_ended == "nothing":
            if_ended = "tell_stored"
        # A client that names no id wants the events to come. If the run is not resumable, it also
        # wants the events that the executing process still holds.
        live = after is None and run.resumable and not run.created
        self._watch_from(None if live else self._position, if_ended)

    @property
    def was_cut(self) -> bool:
        return (self._buffer if self._reader is None else self._reader.buffer).was_cut

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
            # The watcher ignored notices that came while these events waited.
            self._following.watcher.look()
            return events
        state = watch.state
        if self._ended or watch.late or state is None:
            return None
        if state is GONE:
            self._ended = True
            gone = self._run.gone
            return None if gone.forgotten else [end_event(self._run.run_id, gone.status, None)]
        try:
            before_end = await self._before_end(state)
        except AnswersFull:
            # There is no memory now: the caller reads again later.
            return ()
        self._ended = True
        return [*before_end, end_event(self._run.run_id, state.status, state.error)]

    def _with_gap(self, events: list[Event]) -> list[Event]:
        """The events. If events before them are missing, the first one says so."""
        first = events[0].event_id
        next_attempt = ((self._position >> 32) + 1) << 32
        expected = (self._position + 1, next_attempt + 1)
        if self._run.resumable or not self._follows or first in expected:
            return events
        self._gap = True
        return [gap_event(self._run.run_id), *events]

    async def _before_end(self, state: RunState) -> list[Event]:
        """If events are missing: an event that says so, and the values that the run has left.

        :raises AnswersFull: there is no memory for the values now.
        """
        run = self._run
        missing = not run.resumable and self._follows and not state.watched
        if not missing and not self._gap:
            return []
        told = [gap_event(run.run_id)] if missing else []
        try:
            with self._following.memory.reading() as reading:
                values = await run.values(reading, output=True)
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
            # ``error`` is always the last event. Only a deleted run has it stored.
            self._ended |= event.name == "error"

    def _leave_channel(self) -> None:
        if self._channel is not None and self._reader is not None:
            self._channel.unsubscribe(self._reader)
        self._channel = self._reader = None
