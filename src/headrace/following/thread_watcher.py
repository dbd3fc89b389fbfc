"""Finds the runs of followed threads, in whichever process they are executed.

A follower marks the row of its thread (``watched_until``) before the client gets an answer. The
statement that starts a run sees the mark, and the events of the run are stored from the first one.
So a round only has to find the rows of new runs: on a notice and each second, with one query for
the runs of all threads.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from psycopg.errors import LockNotAvailable

from headrace.auth.principal import Principal
from headrace.auth.row_scope import filter_text, scope_values, scoped_statements
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection, indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.transactions import locking_transaction
from headrace.event_settings import EventSettings
from headrace.events.log import event_statements
from headrace.events.reader import FollowingStopped
from headrace.events.reader_buffers import Cut
from headrace.following.thread_runs import (
    FoundRun,
    LastNumber,
    LastSeen,
    Seen,
    StartedRun,
    newest_run,
    partly_seen,
    runs_after_number,
    wanted_runs,
)
from headrace.isolation import for_each_sound
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Notifier
from headrace.unavailable_errors import DatabaseUnavailable, Unavailable

_log = structlog.stdlib.get_logger("headrace.watcher")

_LOCK_TIMEOUT_SECONDS = 5.0
#: How many runs of a thread a round looks at; runs of a thread come one after the other.
_NEWEST = 50
#: How many runs may wait for a client; when there are more, the client is cut.
_MAX_WAITING = 200
#: The pause between two rounds: many notices come together.
_PAUSE_SECONDS = 0.02

#: A transaction that began this long ago may still start a run.
_OVERLAP = timedelta(seconds=5)
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class ThreadWatch:
    """One follower's view of a thread: the runs that wait for it."""

    __slots__ = (
        "_known",
        "awaited",
        "changed",
        "cut",
        "failed",
        "gone",
        "marked_at",
        "principal",
        "since",
        "state_updated_at",
        "thread_id",
        "waiting",
    )

    def __init__(self, thread_id: str, principal: Principal) -> None:
        self.thread_id = thread_id
        self.principal = principal
        self.changed = Signal()
        self.waiting: deque[FoundRun] = deque()
        #: There is no such thread yet.
        self.awaited = False
        #: The thread was deleted.
        self.gone = False
        self.cut = False
        #: The query fails on this thread: a value of it cannot be sent or read.
        self.failed = False
        self.marked_at = monotonic()
        self.state_updated_at: datetime | None = None
        #: Runs that have started before this time are not looked at.
        self.since = _SINCE_EVER
        self._known: deque[UUID] = deque(maxlen=2 * _NEWEST)

    def know(self, run_id: UUID) -> None:
        """The client does not want this run."""
        self._known.append(run_id)

    def found(self, run: FoundRun) -> None:
        """Put the run behind those that wait, if it is a new one."""
        if run.run_id in self._known:
            return
        self._known.append(run.run_id)
        if len(self.waiting) >= _MAX_WAITING:
            self.cut = True
            self.waiting.clear()
        self.waiting.append(run)
        self.changed.set()

    def fail(self) -> None:
        """The thread cannot be followed from this process: its follower is released."""
        self.failed = True
        self.changed.set()

    async def next(self, timeout_seconds: float) -> FoundRun | None:
        """The next run; None when none came in time, or when something else has changed.

        :raises Cut: too many runs waited for the client, so they were dropped.
        :raises FollowingStopped: this process cannot follow the thread.
        """
        if not self.waiting:
            self.changed.clear()
            await self.changed.wait(timeout_seconds)
        if self.cut:
            raise Cut
        if self.failed:
            raise FollowingStopped("fault")
        return self.waiting.popleft() if self.waiting else None


class ThreadWatcher:
    """One per process."""

    def __init__(
        self, pool: SharedPool, notifier: Notifier, settings: EventSettings, tasks: Tasks
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._tasks = tasks
        self._sql = scoped_statements("headrace.following", "thread_watcher.sql")
        self._last_event_sql = event_statements()["last_event_id"]
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pipelined=False
        )
        self._watches: set[ThreadWatch] = set()
        self._wake = Signal()
        self.released = False
        notifier.listeners.add(on_run=lambda run_id: self._heard(), on_any=self._heard)

    @property
    def watching(self) -> int:
        """The number of followers of threads."""
        return len(self._watches)

    def start(self) -> None:
        self._tasks.keep(self._look_for_ever, name="thread-watcher")

    def release(self) -> None:
        """The process drains: it stops following threads."""
        self.released = True
        for watch in self._watches:
            watch.changed.set()

    async def add(
        self, thread_id: str, principal: Principal, seen: Seen, *, may_wait: bool = False
    ) -> ThreadWatch | None:
        """Follow a thread; None when the caller sees no such thread.

        :param may_wait: if there is no such thread, wait until there is one.
        :raises Unavailable: the row of the thread cannot be marked.
        """
        watch = ThreadWatch(thread_id, principal)
        try:
            there = await self._begin(watch, seen)
        except LockNotAvailable as error:
            raise DatabaseUnavailable from error
        if not there and not may_wait:
            return None
        watch.awaited = not there
        self._watches.add(watch)
        return watch

    def remove(self, watch: ThreadWatch) -> None:
        self._watches.discard(watch)

    async def _begin(self, watch: ThreadWatch, seen: Seen) -> bool:
        values = {
            "thread_id": watch.thread_id,
            **scope_values(watch.principal),
            "seconds": self._settings.watch_seconds,
            "run_id": seen.run_id if isinstance(seen, LastSeen) else None,
        }
        async with self._transaction() as connection:
            cursor = await connection.execute(self._sql["mark_thread"], values)
            thread = await cursor.fetchone()
            if thread is None:
                return False
            running, ready, status, watch.state_updated_at = thread
            cursor = await connection.execute(self._sql["runs_since"], _asked([watch]))
            runs = [StartedRun(*row[1:]) for row in await cursor.fetchall()]
            cursor = await connection.execute(self._sql["last_seen"], values)
            ((now, seen_at),) = await cursor.fetchall()
            partly = partly_seen(runs, seen)
            last_id = 0
            if partly is not None:
                cursor = await connection.execute(self._last_event_sql, {"run_id": partly.run_id})
                ((last_id,),) = await cursor.fetchall()
        watch.since = now
        if isinstance(seen, LastNumber):
            wanted = runs_after_number(runs, partly, seen.number, last_id)
        elif seen == "newest" or seen == "untold":
            again = seen == "newest" or status == "interrupted"
            wanted = newest_run(runs, waits=ready is not None, again=again)
        else:
            wanted = wanted_runs(runs, seen, seen_at=seen_at, running=running)
        for run in runs:
            if (found := wanted.get(run)) is not None:
                watch.found(found)
            else:
                watch.know(run.run_id)
        return True

    async def note_told(self, run_id: UUID) -> None:
        """Note that a follower who wants ``untold`` runs is told the end of this one.

        :raises Unavailable: the database could not be reached.
        """
        with translated_faults():
            async with indexed_connection(self._pool) as connection:
                await connection.execute(self._sql["mark_told"], {"run_id": run_id})

    def look(self) -> None:
        """Look soon: a thread may have a new run."""
        self._heard()

    def _heard(self) -> None:
        if self._watches:
            self._wake.set()

    async def _look_for_ever(self) -> None:
        while True:
            await self._wake.wait(self._settings.poll_seconds)
            self._wake.clear()
            watches = list(self._watches)
            if not watches:
                continue
            try:
                failed = await for_each_sound(watches, self._round, passing=(Unavailable,))
            except Unavailable as fault:
                _log.warning("watch_delayed", watches=len(watches), cause=fault.code)
                await asyncio.sleep(self._settings.poll_seconds)
            else:
                for watch, error in failed:
                    _log.error("watch_failed", thread_id=watch.thread_id, exc_info=error)
                    self._watches.discard(watch)
                    watch.fail()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _round(self, watches: Sequence[ThreadWatch]) -> None:
        with translated_faults():
            await self._look_at(watches)

    async def _look_at(self, watches: Sequence[ThreadWatch]) -> None:
        await self._mark(watches)
        asked = _asked(watches)
        rows = await indexed_rows(self._pool, self._sql["threads"], asked)
        there = {watches[row[0] - 1]: row[1] for row in rows}
        runs = await indexed_rows(self._pool, self._sql["runs_since"], asked)
        for number, *row in runs:
            watch, run = watches[number - 1], StartedRun(*row)
            watch.found(run.found())
            watch.since = max(watch.since, run.started_at - _OVERLAP)
        for watch in watches:
            if watch not in there:
                watch.gone = not watch.awaited
                watch.changed.set()
                continue
            watch.awaited = False
            if watch.state_updated_at != there[watch]:
                watch.state_updated_at = there[watch]
                watch.changed.set()

    async def _mark(self, watches: Sequence[ThreadWatch]) -> None:
        due_before = monotonic() - self._settings.watch_seconds / 3
        due = [watch for watch in watches if watch.marked_at < due_before and not watch.awaited]
        if not due:
            return
        # A transaction of its own: starts skip the rows that it locks.
        rows = await indexed_rows(
            self._pool,
            self._sql["mark_threads"],
            {
                "thread_ids": list({watch.thread_id for watch in due}),
                "seconds": self._settings.watch_seconds,
            },
        )
        marked = {row[0] for row in rows}
        for watch in due:
            if watch.thread_id in marked:
                watch.marked_at = monotonic()


def _asked(watches: Sequence[ThreadWatch]) -> dict[str, Any]:
    return {
        "thread_ids": [watch.thread_id for watch in watches],
        "tenants": [watch.principal.tenant for watch in watches],
        "owners": [watch.principal.owner for watch in watches],
        "filters": [filter_text(watch.principal) for watch in watches],
        "since": [watch.since for watch in watches],
        "limit": _NEWEST,
    }
