"""Run ends as operations of the group-commit writer.

The writer commits them in transactions that also write checkpoints. There the ends come after the
checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace.auth.row_scope import scoped_statements
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush_call import Answer, Arguments
from headrace.checkpoints.operations import CalledKind, Numbers, Operation
from headrace.checkpoints.run_writes import RunWrites
from headrace.db.arrays import Integer, Jsonb, Text, Uuid
from headrace.db.jsonb import dump_jsonb
from headrace.errors import HeadraceError, LeaseLost
from headrace.observability.process import process_place
from headrace.queue.rows import CancelReason, Cause, StopAction


def queue_statements() -> Mapping[str, bytes]:
    """The statements of queue.sql by name."""
    return scoped_statements("headrace.queue", "queue.sql")


@dataclass(frozen=True, slots=True)
class AskedHere:
    """A stop that was asked for in this process alone: the row of the run does not say so yet."""

    reason: CancelReason
    at: datetime


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The final status of a run, and the status of its thread then.

    :ivar thread_interrupts: what the thread waits for, by task; for the row of the thread.
    :ivar run_interrupts: the interrupts that this run has left, id and node of each; for the row of
        the run.
    """

    status: str
    thread_status: str
    error: dict[str, str] | None = None
    thread_interrupts: dict[str, Any] | None = None
    #: Why it is an ``error`` or ``timeout``; None for all other ends.
    cause: Cause | None = field(default=None, compare=False)
    run_interrupts: Sequence[Mapping[str, str | None]] = ()
    asked: AskedHere | None = None


#: The end of an attempt. The run goes on in any process that claims it.
RELEASED = RunEnd("pending", "busy")


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A committed end, and who must learn of it."""

    end: RunEnd
    #: A run of the thread may be claimed now.
    more: bool
    #: Another process has watched the run, and may wait for its end.
    watched: bool


class StopAsked(HeadraceError):
    """This process has the run, but a request to stop it came before this end was written."""

    def __init__(self, action: StopAction) -> None:
        super().__init__(action)
        self.action = action


class End(Operation):
    """Write a run's final status and free its thread, after the writes of ``run``."""

    __slots__ = ("end", "error", "interrupts", "notes", "owner")
    # A failed end may be tried again; the writes of the run stay valid.
    fails_run = False

    def __init__(
        self, token: RunToken, thread_id: str, end: RunEnd, *, run: RunWrites | None = None
    ) -> None:
        self.owner = token
        self.end = end
        self.error = _optional_jsonb(end.error)
        self.interrupts = _optional_jsonb(end.thread_interrupts)
        self.notes = _notes(end)
        super().__init__(
            thread_id, run, size_bytes=len(self.error or b"") + len(self.interrupts or b"")
        )

    @property
    def ending(self) -> str:
        return self.end.status

    def result_of_row(
        self, status: str | None, more: bool, watched: bool, asked: StopAction | None
    ) -> "EndedRun | Exception":
        """The result of this operation, from the run's row as it is now."""
        if status == self.end.status:
            return EndedRun(self.end, more, watched)
        if status == "running" and asked is not None and not self._carries_out(asked):
            return StopAsked(asked)
        return LeaseLost()

    def _carries_out(self, asked: StopAction) -> bool:
        return self.end.status == "pending" or (
            self.end.status == "interrupted" and asked != "rollback"
        )


class _EndKind(CalledKind):
    order = 4

    def arguments(self, operations: Sequence[End], numbers: Numbers) -> Arguments:
        return {
            "end_run_ids": Uuid([item.owner.run_id for item in operations]),
            "end_thread_ids": Text([item.thread_id.encode() for item in operations]),
            "end_attempts": Integer([item.owner.attempt for item in operations]),
            "end_process_ids": Uuid([item.owner.process_id for item in operations]),
            "end_statuses": Text([item.end.status.encode() for item in operations]),
            "end_thread_statuses": Text([item.end.thread_status.encode() for item in operations]),
            "end_errors": Jsonb([item.error for item in operations]),
            "end_interrupts": Jsonb([item.interrupts for item in operations]),
            "end_notes": Jsonb([item.notes for item in operations]),
        }

    def outcomes(
        self, operations: Sequence[End], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        return [item.result_of_row(*row) for item, row in zip(operations, answer.ends, strict=True)]


def _notes(end: RunEnd) -> bytes | None:
    """What the row of a run keeps of an end beside its status; most ends have no notes.

    The notes of a release name the process that gives the run back.
    """
    if end.status == "pending":
        return dump_jsonb(process_place())
    if not end.run_interrupts and end.asked is None and end.cause is None:
        return None
    notes: dict[str, Any] = {}
    if end.run_interrupts:
        notes["interrupts"] = list(end.run_interrupts)
    if end.cause is not None:
        notes["cause"] = end.cause
    if end.asked is not None:
        notes["cancel_reason"] = end.asked.reason
        notes["cancel_asked_at"] = end.asked.at.isoformat()
    return dump_jsonb(notes)


def _optional_jsonb(value: Mapping[str, Any] | None) -> bytes | None:
    return None if value is None else dump_jsonb(dict(value))


End.kind = _EndKind()
