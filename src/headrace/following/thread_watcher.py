"""Finds the runs of followed threads, in whichever process they are executed.

A follower marks the row of its thread (``watched_until``) before the client gets an answer. The
statement that starts a run sees the mark, and the events of the run are stored from the first one.
So a round only has to find the rows of new runs: on a notice and each second, with one query for
the runs of all threads.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, Literal
from uuid import UUID

import structlog
from psycopg.errors import LockNotAvailable

from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.db.transactions import locking_transaction
from headrace.errors import DatabaseUnavailable, Unavailable
from headrace.event_settings import EventSettings
from headrace.events.reader import FollowingStopped
from headrace.events.reader_buffers import Cut
from headrace.isolation import for_each_sound
from headrace.lifecycle import Signal, Tasks
from headrace.notices.notifier import Notifier

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


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The last thing that a client has seen: an event of a run, or the end of the run."""

    run_id: UUID
    #: None: the client has seen the end of the run.
    event_id: int | None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run whose events the client gets.

    :param after: the id after which the events are wanted; None: the events to come.
    :param whole: the client gets the end of the run even when none of its events is stored.
    """

    run_id: UUID
    graph_id: str
    after: int | None = 0
    whole: bool = True


class ThreadWatch:
    """One follower's view of a thread: the runs that wait for it."""

    __slots__ = (
        "_known",
        "changed",
        "cut",
        "failed",
        "gone",
        "marked_at",
        "since",
        "state_updated_at",
        "tenant",
        "thread_id",
        "waiting",
    )

    def __init__(self, thread_id: str, tenant: str) -> None:
        self.thread_id = thread_id
        self.tenant = tenant
        self.changed = Signal()
        self.waiting: deque[FoundRun] = deque()
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
        self._sql = named_statements("headrace.following", "thread_watcher.sql")
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
        self, thread_id: str, tenant: str, seen: LastSeen | Literal["nothing"] | None
    ) -> ThreadWatch | None:
        """Follow a thread; None when the tenant has no such thread.

        :param seen: the last thing that the client has seen: follow from there. ``"nothing"``:
            follow from the first run that is kept. None: follow from now on.
        :raises Unavailable: the row of the thread cannot be marked.
        """
        watch = ThreadWatch(thread_id, tenant)
        try:
            there = await self._begin(watch, seen)
        except LockNotAvailable as error:
            raise DatabaseUnavailable from error
        if not there:
            return None
        self._watches.add(watch)
        return watch

    def remove(self, watch: ThreadWatch) -> None:
        self._watches.discard(watch)

    async def _begin(self, watch: ThreadWatch, seen: LastSeen | Literal["nothing"] | None) -> bool:
        values = {
            "thread_id": watch.thread_id,
            "tenant": watch.tenant,
            "seconds": self._settings.watch_seconds,
            "run_id": seen.run_id if isinstance(seen, LastSeen) else None,
        }
        async with self._transaction() as connection:
            cursor = await connection.execute(self._sql["mark_thread"], values)
            thread = await cursor.fetchone()
            if thread is None:
                return False
            running, watch.state_updated_at = thread
            cursor = await connection.execute(self._sql["runs_since"], _asked([watch]))
            runs = await cursor.fetchall()
            cursor = await connection.execute(self._sql["last_seen"], values)
            ((now, seen_at),) = await cursor.fetchall()
        watch.since = now
        for _, run_id, graph_id, started_at in runs:
            if seen == "nothing":
                watch.found(FoundRun(run_id, graph_id, whole=False))
            elif isinstance(seen, LastSeen) and run_id == seen.run_id:
                if seen.event_id is None:
                    watch.know(run_id)
                else:
                    watch.found(FoundRun(run_id, graph_id, after=seen.event_id))
            elif isinstance(seen, LastSeen) and started_at > (seen_at or made_at(seen.run_id)):
                watch.found(FoundRun(run_id, graph_id))
            elif seen is None and run_id == running:
                watch.found(FoundRun(run_id, graph_id, after=None, whole=False))
            else:
                watch.know(run_id)
        return True

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
        for number, run_id, graph_id, started_at in runs:
            watch = watches[number - 1]
            watch.found(FoundRun(run_id, graph_id))
            watch.since = max(watch.since, started_at - _OVERLAP)
        for watch in watches:
            if watch not in there:
                watch.gone = True
                watch.changed.set()
            elif watch.state_updated_at != there[watch]:
                watch.state_updated_at = there[watch]
                watch.changed.set()

    async def _mark(self, watches: Sequence[ThreadWatch]) -> None:
        due_before = monotonic() - self._settings.watch_seconds / 3
        due = [watch for watch in watches if watch.marked_at < due_before]
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
        "tenants": [watch.tenant for watch in watches],
        "since": [watch.since for watch in watches],
        "limit": _NEWEST,
    }


def made_at(run_id: UUID) -> datetime:
    """When a run was made, by the time in its id.

    :raises ValueError: the id holds no time; see :func:`is_dated`.
    """
    return datetime.fromtimestamp(int.from_bytes(run_id.bytes[:6], "big") / 1000, UTC)


def is_dated(run_id: UUID) -> bool:
    """Whether the id holds a time."""
    try:
        made_at(run_id)
    except (ValueError, OverflowError, OSError):
        return False
    return True
