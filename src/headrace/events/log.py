"""Stored events. The group-commit writer writes them behind the fence. Any process reads them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush_call import Answer, Arguments
from headrace.checkpoints.operations import CalledKind, Numbers, Operation, written_if_live
from headrace.checkpoints.retry import READ_SECONDS, retried
from headrace.checkpoints.writer import Writer
from headrace.db.arrays import BigInteger, Bytea, Column, Integer, Text, Uuid
from headrace.db.batches import delete_in_batches
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.event_settings import EventSettings
from headrace.events.event import Event
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.events")

_ALL = UUID(int=0)
_NO_BOUND = 2**63 - 1


class StoreEvents(Operation):
    """Events of one run, to be committed in order."""

    __slots__ = ("_token", "events")

    def __init__(self, thread_id: str, token: RunToken, events: Sequence[Event]) -> None:
        super().__init__(thread_id, None, size_bytes=sum(len(event.data) for event in events))
        self.events = events
        self._token = token

    @property
    def token(self) -> RunToken:
        # Not from RunWrites: a run has events before its first write and after its last write.
        return self._token


class _EventsKind(CalledKind):
    """Stored before run ends: an ended run stores no events."""

    order = 2

    def arguments(self, operations: Sequence[StoreEvents], numbers: Numbers) -> Arguments:
        return _columns(operations, numbers)

    def outcomes(
        self, operations: Sequence[StoreEvents], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        return written_if_live(operations, numbers, answer)


def _columns(operations: Sequence[StoreEvents], numbers: Numbers) -> Mapping[str, Column]:
    rows = [(item, event) for item in operations for event in item.events]
    return {
        "event_tokens": Integer([numbers.of(item) for item, _ in rows]),
        "event_run_ids": Uuid([item.token.run_id for item, _ in rows]),
        "event_ids": BigInteger([event.event_id for _, event in rows]),
        "event_attempts": Integer([item.token.attempt for item, _ in rows]),
        "event_names": Text([event.name.encode() for _, event in rows]),
        "event_data": Bytea([event.data for _, event in rows]),
    }


def event_statements() -> Mapping[str, bytes]:
    """The statements of log.sql by name."""
    return named_statements("headrace.events", "log.sql")


class EventLog:
    """The table ``run_events``."""

    def __init__(self, pool: SharedPool, writer: Writer, settings: EventSettings) -> None:
        self._pool = pool
        self._writer = writer
        self._sql = event_statements()
        self._settings = settings

    async def store(self, thread_id: str, token: RunToken, events: Sequence[Event]) -> None:
        """Commit events. Safe to repeat.

        :raises LeaseLost: this process no longer owns the run.
        :raises Unavailable: the database could not be reached for too long.
        """
        await self._writer.commit(StoreEvents(thread_id, token, events))

    async def last_id(self, run_id: UUID) -> int:
        """The id of the run's latest stored event; 0 if there is none. A run waits for it.

        :raises DatabaseUnavailable: the database could not be reached for too long, or took too
            long.
        """
        values = {"run_id": run_id}
        with translated_faults():
            rows = await retried(
                lambda: indexed_rows(self._pool, self._sql["last_event_id"], values),
                seconds=READ_SECONDS,
                operation="last_event_id",
            )
        return int(rows[0][0])

    async def is_watched(self, run_id: UUID) -> bool:
        """Whether another process wants the events of the run."""
        rows = await self._rows("is_watched", {"run_id": run_id})
        return bool(rows and rows[0][0])

    async def read(
        self, run_id: UUID, after: int, before: int = _NO_BOUND, *, resumable: bool = True
    ) -> list[Event]:
        """A page of the run's events between two ids, without these two.

        :raises Unavailable: the database could not be reached.
        """
        rows = await self._rows(
            "events_between",
            {
                "run_id": run_id,
                "after": after,
                "before": before,
                "limit": self._settings.batch_events,
                "bytes": self._settings.batch_bytes,
            },
        )
        return [Event.stored(*row, resumable=resumable) for row in rows]

    async def named(self, run_id: UUID, prefix: str, *, limit: int = 1000) -> list[Event]:
        """The run's first stored events whose names begin with ``prefix``.

        :raises Unavailable: the database could not be reached.
        """
        values = {"run_id": run_id, "prefix": prefix, "limit": limit}
        rows = await self._rows("events_named", values)
        return [Event.stored(*row, resumable=False) for row in rows]

    async def delete_expired(
        self, keep_seconds: float, *, runs: int = 200, rows: int = 2000
    ) -> int:
        """Delete events in batches: of runs that ended so long ago, and of runs that do not exist.

        :param runs: how many runs one statement looks at.
        :param rows: how many events one statement deletes.
        :returns: how many events were deleted.
        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        after, deleted = _ALL, 0
        while True:
            found = await self._rows(
                "runs_with_expired_events",
                {"after": after, "limit": runs, "keep_seconds": keep_seconds},
            )
            expired = [run_id for run_id, is_expired in found if is_expired]
            if expired:
                deleted += await delete_in_batches(
                    self._pool, self._sql["delete_events"], {"run_ids": expired}, limit=rows
                )
            if len(found) < runs:
                return deleted
            after = found[-1][0]

    async def _rows(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with translated_faults():
            return await indexed_rows(self._pool, self._sql[name], values)


class EventSweeper:
    """Deletes events when ``events.keep_seconds`` have passed since their run ended.

    One per process; any number may sweep at once.
    """

    def __init__(self, log: EventLog, settings: EventSettings) -> None:
        self._events = log
        self._settings = settings

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._settings.sweep_seconds,
            jitter=0.3,
            name="event-sweeper",
            log=_log,
            skipped_event="events_kept_longer",
        )

    async def _sweep(self) -> None:
        deleted = await self._events.delete_expired(self._settings.keep_seconds)
        if deleted:
            _log.info("events_deleted", events=deleted)


StoreEvents.kind = _EventsKind()
