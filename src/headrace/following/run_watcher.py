"""Watches runs that this process does not execute: their rows, and the events stored of them.

One query a round for all of them, on a notice or each second. Whoever wants a run's events says so
in its row (``watched_until``), and its owner begins to store them. A reader that is slow has a page
in memory and the rest in the database.
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
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.errors import Unavailable
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.events.log import event_statements
from headrace.isolation import for_each_sound
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Notifier

_log = structlog.stdlib.get_logger("headrace.watcher")

#: What a watch makes of a run that has ended already: its stored events and its end; the same only
#: if there are such events; nothing.
IfEnded = Literal["tell", "tell_stored", "nothing"]

_UNFINISHED = ("pending", "running")
#: A row that was passed over is looked at again so soon.
_AGAIN_SECONDS = 0.05
#: A reader has one page above this in memory, not two.
_LARGE_PAGE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run's row says; ``gone`` is the status of one that has no row any more."""

    status: str
    error: dict[str, Any] | None = None
    #: Its owner stored its events until it ended; always so while it runs.
    watched: bool = True

    @property
    def ended(self) -> bool:
        return self.status not in _UNFINISHED


GONE = RunState("gone")


class Watch:
    """One follower's view of a run elsewhere.

    :param after: the id after which events are wanted; None for those to come; no events at all
        without ``events``.
    :param announced: its end is told to all processes without anybody's asking for it.
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
        #: It could not be looked at: a value of it, or of its run, cannot be sent or read.
        self.failed = False
        #: It had ended when it was looked at first, and nothing of it was asked for.
        self.late = False
        #: A large page is being sent: the next one is read when the client has taken it.
        self.paused = False
        self.changed = Signal()
        self._events: list[Event] = []

    @property
    def sound(self) -> bool:
        """Whether there is more to come."""
        return not self.complete and not self.failed

    @property
    def hungry(self) -> bool:
        """Whether a round is to ask for more."""
        return self.sound and not self.paused and not self._events

    @property
    def waiting(self) -> bool:
        return bool(self._events)

    def take(self) -> list[Event]:
        """The events that wait."""
        events, self._events = self._events, []
        self.paused = sum(event.size_bytes for event in events) > _LARGE_PAGE_BYTES
        return events

    def fail(self) -> None:
        """Nothing can be learnt of its run here; its follower is let go."""
        self.failed = True
        self.changed.set()

    def feed(self, state: RunState, page: Sequence[Event], *, full: bool) -> None:
        """What a round has found; ``full``: there may be more right now."""
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
        """Whether a run that had ended before it was watched has anything to tell."""
        return self._if_ended == "tell" or (self._if_ended == "tell_stored" and bool(page))


#: Of which run events are wanted, after which id, and whether they have ids for clients.
_Wanted = tuple[UUID, int | None, bool]


def _wanted(watch: Watch) -> _Wanted:
    return watch.run_id, watch.after, watch.resumable


@dataclass(frozen=True, slots=True)
class _Page:
    events: Sequence[Event]
    #: There may be more right now.
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
        #: Whose owners will tell their end.
        self._announced: set[UUID] = set()
        self._pause_seconds = settings.poll_seconds
        self._wake = Signal()
        notifier.listeners.add(on_run=self._heard, on_any=self._wake.set)

    @property
    def watching(self) -> int:
        """Followers of runs elsewhere."""
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
        """There is something to fetch: a page was read."""
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
                # One whose client is slow is not fed, but its events must go on being stored.
                if one.hungry or (one.sound and one.wants_events and self._is_due(one.run_id))
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
        async with self._pool.connection() as connection:
            # The rows first: of a run that has ended then, all events are there now.
            cursor = await connection.execute(self._sql["states"], {"run_ids": Uuid(run_ids)})
            states = {
                row[0]: (RunState(row[1], row[2], row[3]), row[4])
                for row in await cursor.fetchall()
            }
            # Once for all: one that is asked for no page must not be fed an empty one.
            hungry = [one for one in watches if one.hungry]
            asking = [one for one in hungry if one.wants_events]
            for one in asking:
                if one.after is None:
                    one.after = states[one.run_id][1] if one.run_id in states else 0
            pages = await self._pages(connection, asking)
        for watch in hungry:
            page = pages.get(_wanted(watch), _NO_PAGE) if watch.wants_events else _NO_PAGE
            state = states[watch.run_id][0] if watch.run_id in states else GONE
            try:
                watch.feed(state, page.events, full=page.is_full)
            except Exception:
                # Not to be raised here: the others of this round must not be fed again.
                _log.exception("watch_failed", run_id=str(watch.run_id))
                watch.fail()
            if watch.run_id in passed_over and not state.ended:
                # Most likely it is just ending, and would not tell.
                self._pause_seconds = min(_AGAIN_SECONDS, self._settings.poll_seconds)

    async def _pages(self, connection: Any, asking: Sequence[Watch]) -> Mapping[_Wanted, _Page]:
        """One page for all that want the same of a run: its events are read and kept once."""
        wanted = list({_wanted(one): None for one in asking})
        if not wanted:
            return {}
        cursor = await connection.execute(
            self._events_sql,
            {
                "run_ids": Uuid([run_id for run_id, _, _ in wanted]),
                "afters": BigInteger([after or 0 for _, after, _ in wanted]),
                "limit": self._settings.batch_events,
                "bytes": self._settings.batch_bytes,
            },
        )
        rows: dict[_Wanted, list[tuple[int, str, bytes]]] = {}
        for number, *row in await cursor.fetchall():
            rows.setdefault(wanted[number - 1], []).append((row[0], row[1], row[2]))
        return {one: self._page_of(found, resumable=one[2]) for one, found in rows.items()}

    def _page_of(self, rows: Sequence[tuple[int, str, bytes]], *, resumable: bool) -> _Page:
        size = sum(len(data) for _, _, data in rows)
        # Whether a bound, not the last event, has ended the page.
        is_full = len(rows) >= self._settings.batch_events or size >= self._settings.batch_bytes
        return _Page([Event.stored(*row, resumable=resumable) for row in rows], is_full)

    async def _mark(self, watches: Sequence[Watch]) -> Collection[UUID]:
        """Say in the rows that their events are wanted, long before that lapses, or their end.

        Returns those whose rows could not be had, or are not to be marked any more.
        """
        due = self._due(watches)
        if not due:
            return ()
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                self._sql["mark_watched"],
                {
                    "run_ids": Uuid(list(due)),
                    "events": Boolean(list(due.values())),
                    "seconds": self._settings.watch_seconds,
                },
            )
            rows = await cursor.fetchall()
        for run_id, is_new in rows:
            if run_id in self._watches:
                self._announced.add(run_id)
                if due[run_id]:
                    self._marked_at[run_id] = monotonic()
            if is_new:
                self._notifier.run_changed(run_id)
        return due.keys() - {row[0] for row in rows}

    def _due(self, watches: Sequence[Watch]) -> dict[UUID, bool]:
        """The runs whose rows are to say so, and whether for their events."""
        due: dict[UUID, bool] = {}
        for one in watches:
            if one.wants_events:
                if self._is_due(one.run_id):
                    due[one.run_id] = True
            elif not one.announced and one.run_id not in self._announced:
                due.setdefault(one.run_id, False)
        return due

    def _is_due(self, run_id: UUID) -> bool:
        """Whether its row is to say again that its events are wanted."""
        due_before = monotonic() - self._settings.watch_seconds / 3
        return self._marked_at.get(run_id, float("-inf")) < due_before
