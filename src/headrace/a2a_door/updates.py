"""A task as it goes on, in updates of A2A."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from headrace.a2a_door.forms import TaskForm
from headrace.a2a_door.service import StartedTask
from headrace.a2a_door.tasks import Part, TaskState, error_text
from headrace.doors.json_rpc import INTERNAL_ERROR, RpcError, rpc_error, rpc_result
from headrace.doors.replies import question_text
from headrace.doors.told_messages import Ended, Piece, ToldMessages
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json
from headrace.events.reader import CutReason
from headrace.events.sse import data_frame

_CANCELLED = "UserInterrupt"


@dataclass(slots=True)
class TaskTelling:
    """The updates of one task: the task first, the pieces of its reply, and its end."""

    started: StartedTask
    form: TaskForm
    call_id: Any
    history_length: int | None = None
    _told: ToldMessages = field(default_factory=ToldMessages)
    _begun: bool = False
    _works: bool = False
    #: How many messages of the agent have begun: each is an artifact.
    _artifacts: int = 0

    def frames(self, events: Sequence[Event]) -> list[bytes]:
        frames = [] if self._begun else [self._task()]
        if events and not self._works:
            self._works = True
            frames.append(self._state("working"))
        for told in self._told.take(events):
            frames += self._end(told) if isinstance(told, Ended) else [self._piece(told)]
        return frames

    def cut(self, reason: CutReason) -> bytes:
        message = f"The stream is cut ({reason}), and the task goes on: get it, or follow it again."
        error = RpcError(INTERNAL_ERROR, message, {"code": "reply_cut"})
        return data_frame(encode_json(rpc_error(self.call_id, error)))

    def _task(self) -> bytes:
        self._begun = True
        return self._frame(self.form.sent(self.started.begun(), self.history_length))

    def _piece(self, piece: Piece) -> bytes:
        self._artifacts += piece.begins
        return self._artifact(piece.text, append=not piece.begins, last=False)

    def _end(self, end: Ended) -> list[bytes]:
        frames = []
        if self._told.questions:
            return [self._state("input-required", question_text(self._told.questions))]
        if end.error is not None:
            if end.error.get("error") == _CANCELLED:
                return [self._state("canceled")]
            return [self._state("failed", error_text(end.error))]
        if closing := self._told.closing():
            self._artifacts += 1
            frames.append(self._artifact(closing, append=False, last=True))
        elif self._artifacts:
            frames.append(self._artifact("", append=True, last=True))
        return [*frames, self._state("completed")]

    def _artifact(self, text: str, *, append: bool, last: bool) -> bytes:
        name = f"reply-{self._artifacts}"
        task = self.started.begun()
        update = self.form.artifact_update(task, name, text, append=append, last=last)
        return self._frame(update)

    def _state(self, state: TaskState, told: Part = None) -> bytes:
        task = replace(self.started.begun(), state=state, at=datetime.now(UTC), told=told)
        return self._frame(self.form.status_update(task))

    def _frame(self, result: Any) -> bytes:
        return data_frame(encode_json(rpc_result(self.call_id, result)))
