"""Makes the timeline of a run from its record: attempts, entries in the order of time, totals."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast, get_args
from uuid import UUID

from headrace.checkpoints.run_checkpoints import StoredCheckpoint
from headrace.ids import canonical_uuid
from headrace.queue.rows import Began, Cause
from headrace.runs.timeline_repository import RunRecord, recorded_attempts
from headrace.runs.timeline_schemas import (
    AttemptBegan,
    AttemptEnded,
    CancelAsked,
    CheckpointEntry,
    CheckpointsDeleted,
    CreatedEntry,
    EndedEntry,
    Entry,
    EventsStored,
    InterruptLeft,
    LongestStep,
    Rescued,
    ResumedBy,
    RunTimeline,
    StepBytes,
    TimelineAttempt,
    TimelineError,
    TimelineRun,
    TimelineTotals,
    TimelineUsage,
)
from headrace.tracing.trace_context import stored_context


class Telling:
    """Makes the timeline of one record.

    :param record: what is stored about the run, with a page of its checkpoints.
    :param truncated: the page leaves out checkpoints of the run.
    """

    def __init__(self, record: RunRecord, *, truncated: bool) -> None:
        self._record = record
        self._row = record.row
        self._truncated = truncated
        self._now: datetime = record.row["read_at"]
        self._rescues: dict[int, datetime] = {}
        self._attempts = self._all_attempts()

    def timeline(self) -> RunTimeline:
        """The whole answer."""
        record, row = self._record, self._row
        return RunTimeline(
            run=self._run(),
            resumes=record.resumes,
            resumed_by=[run_id for run_id, _ in record.resumed_by],
            waited_for=self._waited_for(),
            attempts=self._attempts,
            unrecorded_attempts=max(0, row["attempt"] - len(self._attempts)),
            entries=in_order(self._entries()),
            truncated=self._truncated,
            checkpoints_deleted=self._deleted,
            totals=self._totals(),
        )

    @property
    def _deleted(self) -> bool:
        """Whether checkpoints of the run are gone."""
        row, checkpoints = self._row, self._record.checkpoints
        if checkpoints.older_deleted:
            return True
        # A run that has succeeded has written one, unless it only asked its question again.
        written = row["status"] == "success" and not row["goes_on"]
        return checkpoints.count == 0 and (written or self._reduced_at is not None)

    @property
    def _reduced_at(self) -> datetime | None:
        """When retention reduced the thread, if that was after the run."""
        reduced_at, ended_at = self._row["pruned_at"], self._row["ended_at"]
        return reduced_at if reduced_at and ended_at and reduced_at > ended_at else None

    def _run(self) -> TimelineRun:
        row = self._row
        asked = row["ended_at"] is None and row["cancel_action"] is not None
        context = stored_context(row["traceparent"])
        return TimelineRun(
            run_id=row["run_id"],
            thread_id=row["thread_id"],
            assistant_id=row["assistant_id"],
            graph_id=row["graph_id"],
            status="interrupted" if asked else row["status"],
            error=self._error(),
            multitask_strategy=row["multitask_strategy"],
            created_at=_utc(row["created_at"]),
            started_at=self._first_start(),
            ended_at=_utc_or_none(row["ended_at"]),
            request_id=row["request_id"],
            trace_id=None if context is None else context.trace_id,
            failures=row["failures"],
        )

    def _error(self) -> TimelineError | None:
        error = self._row["error"]
        if not isinstance(error, dict):
            return None
        # A later release may know more causes.
        cause = self._row["error_cause"]
        return TimelineError(
            error=str(error.get("error", "")),
            message=str(error.get("message", "")),
            cause=cause if cause in get_args(Cause) else None,
        )

    def _first_start(self) -> datetime | None:
        first = self._attempts[:1]
        return first[0].started_at if first and first[0].attempt == 1 else None

    def _waited_for(self) -> list[UUID]:
        """The runs ahead of it; none if it began at once."""
        first = self._attempts[:1]
        if first and first[0].began == "in_place":
            return []
        until = self._first_start() or self._now
        return [
            run_id
            for run_id, ended_at in self._record.ahead
            if ended_at is None or ended_at <= until
        ]

    def _all_attempts(self) -> list[TimelineAttempt]:
        row, told = self._row, list[TimelineAttempt]()
        for one in recorded_attempts(row):
            ended_at = _utc(datetime.fromisoformat(one["ended_at"]))
            if one.get("rescued_at"):
                rescued_at = _utc(datetime.fromisoformat(one["rescued_at"]))
                self._rescues[one["attempt"]] = rescued_at
                ended_at = self._last_sign(one["attempt"], ended_at, rescued_at)
            told.append(self._attempt(one, told, ended_at, one["ended"]))
        if row["attempt"] and row["started_at"] and not _has(told, row["attempt"]):
            ended = row["status"] if row["ended_at"] is not None else None
            told.append(self._attempt(row, told, _utc_or_none(row["ended_at"]), ended))
        return told

    def _last_sign(self, attempt: int, renewed_at: datetime, rescued_at: datetime) -> datetime:
        """The last sign of life of a lost attempt: its lease, or a later checkpoint."""
        written_at = self._record.checkpoints.last_of_attempts.get(str(attempt), renewed_at)
        return min(max(renewed_at, _utc(written_at)), rescued_at)

    def _attempt(
        self,
        one: dict[str, Any],
        before: Sequence[TimelineAttempt],
        ended_at: datetime | None,
        ended: str | None,
    ) -> TimelineAttempt:
        started_at = one["started_at"]
        if isinstance(started_at, str):
            started_at = datetime.fromisoformat(started_at)
        began, free_at = self._before(one["attempt"], started_at, before)
        until = ended_at
        if until is None and self._row["status"] == "running":
            until = self._now
        process_id = canonical_uuid(str(one["process_id"]))
        return TimelineAttempt(
            attempt=one["attempt"],
            began=began,
            process_id=UUID(process_id) if process_id else None,
            hostname=one.get("hostname"),
            pid=one.get("pid"),
            waited_seconds=None if free_at is None else _seconds(free_at, started_at),
            started_at=_utc(started_at),
            ended_at=ended_at,
            ended=cast("Any", ended),
            seconds=None if until is None else _seconds(started_at, until),
        )

    def _before(
        self, number: int, started_at: datetime, before: Sequence[TimelineAttempt]
    ) -> tuple[Began | None, datetime | None]:
        """How an attempt began, and since when the run had waited for it."""
        created_at = self._row["created_at"]
        if number == 1:
            # A start in place makes the run and begins it in one transaction.
            return ("in_place" if started_at == created_at else "claimed"), created_at
        if not before or before[-1].attempt != number - 1:
            return None, None
        last = before[-1]
        if last.ended == "lost":
            return "after_loss", self._rescues.get(last.attempt, last.ended_at)
        return "after_release", last.ended_at

    def _entries(self) -> Iterator[Entry]:
        row, events = self._row, self._record.events
        yield CreatedEntry(at=_utc(row["created_at"]))
        if self._deleted:
            yield CheckpointsDeleted(at=_utc_or_none(self._reduced_at))
        for attempt in self._attempts:
            yield from self._entries_of(attempt)
        yield from map(_checkpoint, self._record.checkpoints.page)
        if events.first_at is not None and events.last_at is not None:
            yield EventsStored(
                at=_utc(events.first_at),
                until=_utc(events.last_at),
                count=events.count,
                bytes=events.bytes,
            )
        if row["cancel_action"] is not None or row["cancel_reason"] is not None:
            yield CancelAsked(
                at=_utc_or_none(row["cancel_asked_at"]),
                reason=row["cancel_reason"],
                note=row["cancel_note"],
                action=row["cancel_action"] or "interrupt",
            )
        yield from self._last_entries()

    def _entries_of(self, attempt: TimelineAttempt) -> Iterator[Entry]:
        yield AttemptBegan(
            at=attempt.started_at,
            **attempt.model_dump(
                include={"attempt", "began", "process_id", "hostname", "pid", "waited_seconds"}
            ),
        )
        if attempt.ended_at is not None and attempt.ended is not None:
            yield AttemptEnded(
                at=attempt.ended_at,
                attempt=attempt.attempt,
                ended=attempt.ended,
                seconds=attempt.seconds or 0.0,
            )
            if rescued_at := self._rescues.get(attempt.attempt):
                yield Rescued(
                    at=rescued_at,
                    attempt=attempt.attempt,
                    silent_seconds=_seconds(attempt.ended_at, rescued_at),
                )

    def _last_entries(self) -> Iterator[Entry]:
        row = self._row
        ended_at = _utc_or_none(row["ended_at"])
        if ended_at is not None:
            for one in row["interrupts"] or ():
                yield InterruptLeft(at=ended_at, id=one["id"], node=one["node"])
            yield EndedEntry(at=ended_at, status=row["status"], error=self._error())
        for run_id, created_at in self._record.resumed_by:
            yield ResumedBy(at=_utc(created_at), run_id=run_id)

    def _totals(self) -> TimelineTotals:
        row, events = self._row, self._record.events
        checkpoints = self._record.checkpoints
        tokens = self._record.tokens
        return TimelineTotals(
            seconds=_seconds(row["created_at"], row["ended_at"] or self._now),
            queue_seconds=sum(one.waited_seconds or 0.0 for one in self._attempts)
            + self._waits_since(),
            executing_seconds=sum(one.seconds or 0.0 for one in self._attempts),
            lost_seconds=sum(
                _seconds(one.ended_at, self._rescues[one.attempt])
                for one in self._attempts
                if one.ended_at is not None and one.attempt in self._rescues
            ),
            attempts=row["attempt"],
            rescues=sum(one.ended == "lost" for one in self._attempts),
            releases=sum(one.ended == "released" for one in self._attempts),
            checkpoints=checkpoints.count,
            checkpoint_bytes=checkpoints.bytes,
            steps=checkpoints.steps,
            longest_step=_longest(checkpoints.longest),
            after_last_checkpoint_seconds=self._after_last_checkpoint(),
            events=events.count,
            event_bytes=events.bytes,
            tokens=TimelineUsage(**dict(zip(TimelineUsage.model_fields, tokens, strict=True)))
            if tokens
            else None,
        )

    def _after_last_checkpoint(self) -> float | None:
        last = self._attempts[-1] if self._attempts else None
        if last is None or last.seconds is None:
            return None
        written_at = self._record.checkpoints.last_at
        if written_at is None or written_at < last.started_at:
            return last.seconds
        return _seconds(written_at, last.ended_at or self._now)

    def _waits_since(self) -> float:
        """Seconds that it has waited since its last attempt, or for its first one."""
        row = self._row
        if not self._attempts:
            known = row["attempt"] == 0
            return _seconds(row["created_at"], row["ended_at"] or self._now) if known else 0.0
        last = self._attempts[-1]
        free_at = self._rescues.get(last.attempt, last.ended_at)
        if free_at is None or last.ended not in ("released", "lost"):
            return 0.0
        return _seconds(free_at, row["ended_at"] or self._now)


#: Entries of one moment, in this order.
_ORDER = (
    "created",
    "attempt_began",
    "checkpoints_deleted",
    "events",
    "checkpoint",
    "cancel_asked",
    "attempt_ended",
    "rescued",
    "interrupt",
    "ended",
    "resumed_by",
)


def in_order(entries: Iterator[Entry]) -> list[Entry]:
    """The entries in the order of time. An entry without a time keeps its place after the last.

    A run is made before anything else: one with a delay may be stopped before it may start.
    """
    timed, last = [], datetime.min.replace(tzinfo=UTC)
    for entry in entries:
        last = entry.at or last
        timed.append((last, _ORDER.index(entry.kind), entry))
    timed.sort(key=lambda one: (one[2].kind != "created", *one[:2]))
    return [entry for _, _, entry in timed]


def _checkpoint(stored: StoredCheckpoint) -> CheckpointEntry:
    return CheckpointEntry(
        at=_utc_or_none(stored.created_at),
        checkpoint_id=stored.checkpoint_id,
        checkpoint_ns=stored.namespace,
        source=stored.source,
        step=stored.step,
        nodes=list(stored.nodes),
        attempt=stored.attempt,
        seconds=None if stored.seconds is None else round(stored.seconds, 6),
        bytes=StepBytes(
            checkpoint=stored.bytes, values=stored.blob_bytes, writes=stored.write_bytes
        ),
    )


def _longest(stored: StoredCheckpoint | None) -> LongestStep | None:
    if stored is None or stored.seconds is None:
        return None
    return LongestStep(
        seconds=round(stored.seconds, 6),
        step=stored.step,
        nodes=list(stored.nodes),
        checkpoint_id=stored.checkpoint_id,
        checkpoint_ns=stored.namespace,
    )


def _has(attempts: Sequence[TimelineAttempt], number: int) -> bool:
    return any(one.attempt == number for one in attempts)


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, round((end - start).total_seconds(), 6))


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _utc_or_none(value: datetime | None) -> datetime | None:
    return None if value is None else _utc(value)
