"""Watches runs that other processes execute: their rows and their stored events.

A round reads all watched runs with two queries: one for rows, one for events. It begins on a
notice, and each second. To get the events of a run, the watcher marks the run's row
(``watched_until``): the process that executes the run then begins to store them. A slow reader has
at most two pages in memory, and the rest in the database.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal
from uuid import UUID

import structlog

from headrace.db.arrays import BigInteger, Boolean, Uuid
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.log import event_statements
from headrace.isolation import for_each_sound
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Notifier
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.watcher")

#: What a follower gets if the run had ended before the watch began. ``tell``: stored events and the
#: end. ``tell_stored``: both, but only if there are stored events. ``nothing``: neither.
IfEnded = Literal["tell", "tell_stored", "nothing"]

_UNFINISHED = ("pending", "running")
#: When the row of a run was locked, the watcher looks again after this time.
_AGAIN_SECONDS = 0.05
#: A reader has two pages in memory: one that is being sent, and the next one. While a page larger
#: than this is being sent, the reader has only that one.
_LARGE_PAGE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run's row says; the status of a run without a row is ``gone``."""

    status: str
    error: dict[str, Any] | None = None
    #: Whether the executing process stored events until the run ended; True while the run goes on.
    watched: bool = True

    @property
    def ended(self) -> bool:
        return self.status not in _UNFINISHED


GONE = RunState("gone")


class Watch:
    """One follower's view of a run that another process executes.

    :param events: whether events are wanted, and not only the end.
    :param after: the id after which events are wanted; None: the events to come.
    :param announced: the executing process announces the end to all processes without a mark.
    """

    __slots__ = (
        "_events",
        "_if_ended",
        "after",
        "announced",
        "changed",
        "complete",
        "failed",
        "late",
        "paused",
        "resumable",
        "run_id",
        "state",
        "wants_events",
    )

    def __init__(
        self,
        run_id: UUID,
        *,
        after: int | None = None,
        events: bool = False,
        resumable: bool = False,
        if_ended: IfEnded = "tell",
        announced: bool = False,
    ) -> None:
        self.run_id = run_id
        self.after = after
        self.wants_events = events
        self.resumable = resumable
        self.announced = announced
        self._if_ended = if_ended
        self.state: RunState | None = None
        #: Nothing more will come.
        self.complete = False
        #: The query fails on this run: a value of it cannot be sent or read.
        self.failed = False
        #: The run had ended before the first look, and the follower wants nothing of such a run.
        self.late = False
        #: A large page is being sent: the next page is read when the client has taken this one.
        self.paused = False
        self.changed = Signal()
        self._events: list[Event] = []

    @property
    def readable(self) -> bool:
        """Whether there is more to come."""
        return not self.complete and not self.failed

    @property
    def wanting(self) -> bool:
        """Whether the next round asks for more."""
        return self.readable and not self.paused and not self._events

    @property
    def waiting(self) -> bool:
        return bool(self._events)

    def take(self) -> list[Event]:
        """The events that wait."""
        events, self._events = self._events, []
        self.paused = sum(event.size_bytes for event in events) > _LARGE_PAGE_BYTES
        return events

    def fail(self) -> None:
        """The run cannot be followed from this process: its follower is released."""
        self.failed = True
        self.changed.set()

    def feed(self, state: RunState, page: Sequence[Event], *, full: bool) -> None:
        """Take what a round has found.

        :param full: whether the database may have more events now.
        """
        first = self.state is None
        self.state = state
        if first and state.ended and not self._tells(page):
            self.late = self.complete = True
        elif page:
            self.after = page[-1].event_id
            self._events = list(page)
        if state.ended and not full:
            self.complete = True
        if self._events or self.complete:
            self.changed.set()

    def _tells(self, page: Sequence[object]) -> bool:
        """Whether the follower gets this page of a run that had ended before it was watched."""
        return self._if_ended == "tell" or (self._if_ended == "tell_stored" and bool(page))


#: The run, the id after which its events are wanted, and whether clients get ids with the events.
_Wanted = tuple[UUID, int | None, bool]


def _wanted(watch: Watch) -> _Wanted:
    return watch.run_id, watch.after, watch.resumable


@dataclass(frozen=True, slots=True)
class _Page:
    events: Sequence[Event]
    #: Whether the database may have more events now.
    is_full: bool


_NO_PAGE = _Page((), is_full=False)


class Watcher:
    """One per process."""

    def __init__(
        self,
        pool: SharedPool,
        notifier: Notifier,
        settings: EventSettings,
        tasks: Tasks,
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._settings = settings
        self._tasks = tasks
        self._sql = named_statements("headrace.following", "run_watcher.sql")
        self._events_sql = event_statements()["events_of_watched"]
        self._watches: dict[UUID, set[Watch]] = {}
        self._marked_at: dict[UUID, float] = {}
        #: Runs whose end the executing process will announce.
        self._announced: set[UUID] = set()
        self._pause_seconds = settings.poll_seconds
        self._wake = Signal()
        notifier.listeners.add(on_run=self._heard, on_any=self._wake.set)

    @property
    def watching(self) -> int:
        """The number of followers of runs that other processes execute."""
        return sum(len(watches) for watches in self._watches.values())

    def start(self) -> None:
        self._tasks.keep(self._look_for_ever, name="watcher")

    def add(self, watch: Watch) -> None:
        self._watches.setdefault(watch.run_id, set()).add(watch)
        self._wake.set()

    def remove(self, watch: Watch) -> None:
        watches = self._watches.get(watch.run_id, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(watch.run_id, None)
            self._marked_at.pop(watch.run_id, None)
            self._announced.discard(watch.run_id)

    def look(self) -> None:
        """Look soon: a page was read, and there may be more."""
        self._wake.set()

    def _heard(self, run_id: UUID) -> None:
        if run_id in self._watches:
            self._wake.set()

    async def _look_for_ever(self) -> None:
        while True:
            await self._wake.wait(self._pause_seconds)
            self._wake.clear()
            self._pause_seconds = self._settings.poll_seconds
            watches = [
                one
                for some in self._watches.values()
                for one in some
                # A watch with a slow client is not fed, but the events of its run must be stored.
                if one.wanting or (one.readable and one.wants_events and self._is_due(one.run_id))
            ]
            if not watches:
                continue
            try:
                failed = await for_each_sound(watches, self._round, passing=(Unavailable,))
            except Unavailable as fault:
                _log.warning("watch_delayed", watches=len(watches), cause=fault.code)
                await asyncio.sleep(self._settings.poll_seconds)
                self._wake.set()
                continue
            for watch, error in failed:
                _log.error("watch_failed", run_id=str(watch.run_id), exc_info=error)
                watch.fail()

    async def _round(self, watches: Sequence[Watch]) -> None:
        with translated_faults():
            await self._look_at(watches)

    async def _look_at(self, watches: Sequence[Watch]) -> None:
        run_ids = list({watch.run_id for watch in watches})
        passed_over = await self._mark(watches)
        # The rows first: where a row says that the run has ended, all its events are stored.
        rows = await indexed_rows(self._pool, self._sql["states"], {"run_ids": Uuid(run_ids)})
        states = {row[0]: (RunState(row[1], row[2], row[3]), row[4]) for row in rows}
        # Decide this once: a watch without a page in this round must not get an empty one.
        wanting = [one for one in watches if one.wanting]
        asking = [one for one in wanting if one.wants_events]
        for one in asking:
            if one.after is None:
                one.after = states[one.run_id][1] if one.run_id in states else 0
        pages = await self._pages(asking)
        for watch in wanting:
            page = pages.get(_wanted(watch), _NO_PAGE) if watch.wants_events else _NO_PAGE
            state = states[watch.run_id][0] if watch.run_id in states else GONE
            try:
                watch.feed(state, page.events, full=page.is_full)
            except Exception:
                # Not raised: the other watches of this round must not be fed twice.
                _log.exception("watch_failed", run_id=str(watch.run_id))
                watch.fail()
            if watch.run_id in passed_over and not state.ended:
                # The row was locked. Most likely the run is ending, and no process announces that.
                self._pause_seconds = min(_AGAIN_SECONDS, self._settings.poll_seconds)

    async def _pages(self, asking: Sequence[Watch]) -> Mapping[_Wanted, _Page]:
        """Read pages. Watches that want one page of a run share it in the query and in memory."""
        wanted = list({_wanted(one): None for one in asking})
        if not wanted:
            return {}
        found = await indexed_rows(
            self._pool,
            self._events_sql,
            {
                "run_ids": Uuid([run_id for run_id, _, _ in wanted]),
                "afters": BigInteger([after or 0 for _, after, _ in wanted]),
                "limit": self._settings.batch_events,
                "bytes": self._settings.batch_bytes,
            },
        )
        rows: dict[_Wanted, list[tuple[int, str, bytes]]] = {}
        for number, event_id, name, data in found:
            rows.setdefault(wanted[number - 1], []).append((event_id, name, data))
        return {one: self._page_of(events, resumable=one[2]) for one, events in rows.items()}

    def _page_of(self, rows: Sequence[tuple[int, str, bytes]], *, resumable: bool) -> _Page:
        size = sum(len(data) for _, _, data in rows)
        # Whether the page has ended at a bound, not at the last event.
        is_full = len(rows) >= self._settings.batch_events or size >= self._settings.batch_bytes
        return _Page([Event.stored(*row, resumable=resumable) for row in rows], is_full)

    async def _mark(self, watches: Sequence[Watch]) -> Collection[UUID]:
        """Mark the rows of runs whose events, or only whose end, are wanted.

        It renews a mark long before the mark lapses. Returns the runs that it could not mark: their
        rows are locked, or they have ended.
        """
        due = self._due(watches)
        if not due:
            return ()
        rows = await indexed_rows(
            self._pool,
            self._sql["mark_watched"],
            {
                "run_ids": Uuid(list(due)),
                "events": Boolean(list(due.values())),
                "seconds": self._settings.watch_seconds,
            },
        )
        for run_id, is_new in rows:
            if run_id in self._watches:
                self._announced.add(run_id)
                if due[run_id]:
                    self._marked_at[run_id] = monotonic()
            if is_new:
                self._notifier.run_changed(run_id)
        return due.keys() - {row[0] for row in rows}

    def _due(self, watches: Sequence[Watch]) -> dict[UUID, bool]:
        """The runs whose rows need a mark, and whether their events are wanted."""
        due: dict[UUID, bool] = {}
        for one in watches:
            if one.wants_events:
                if self._is_due(one.run_id):
                    due[one.run_id] = True
            elif not one.announced and one.run_id not in self._announced:
                due.setdefault(one.run_id, False)
        return due

    def _is_due(self, run_id: UUID) -> bool:
        """Whether the run's row needs a new mark for events."""
        due_before = monotonic() - self._settings.watch_seconds / 3
        return self._marked_at.get(run_id, float("-inf")) < due_before
