"""A run as a task of A2A, in no version's form yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from headrace.chat.replies import interrupts_of
from headrace.db.tables import RunRow
from headrace.doors.replies import question_text, reply_in
from headrace.events.json_encoding import storable
from headrace.queue.rows import RunOutcome

TaskState = Literal["submitted", "working", "completed", "failed", "canceled", "input-required"]
ENDED: tuple[TaskState, ...] = ("completed", "failed", "canceled")

#: The prefix of the ids of messages that come from A2A: a message of another door keeps its own.
MESSAGE_PREFIX = "a2a-"

#: A part of a message: a text, or any other JSON value.
Part = str | Mapping[str, Any] | Sequence[Any] | float | bool | None


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A message of the user or of the agent."""

    message_id: str
    of_user: bool
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class AgentTask:
    """A task: one run, or several if the agent has asked in between.

    :ivar told: what goes with the state: a question, or an error.
    :ivar output: what the task has brought; None while it has brought nothing.
    """

    task_id: str
    context_id: str
    state: TaskState
    at: datetime
    told: Part = None
    output: Part = None
    history: Sequence[TaskMessage] = ()


def begun_task(row: RunRow, task_id: str, history: Sequence[TaskMessage]) -> AgentTask:
    """A task whose run has not ended."""
    state: TaskState = "working" if row.status == "running" else "submitted"
    return AgentTask(task_id, row.thread_id, state, row.updated_at.astimezone(UTC), history=history)


def ended_task(
    task_id: str,
    context_id: str,
    outcome: RunOutcome,
    history: Sequence[TaskMessage],
    sent: Sequence[str],
    *,
    talks: bool,
    at: datetime | None = None,
) -> AgentTask:
    """A task whose run has ended.

    :param sent: the ids of the messages that the run got.
    :param talks: the graph takes messages, so its reply is a text.
    """
    state, told, output = _end(outcome, sent, talks=talks)
    ended_at = at.astimezone(UTC) if at is not None else datetime.now(UTC)
    return AgentTask(task_id, context_id, state, ended_at, told, output, history)


def _end(outcome: RunOutcome, sent: Sequence[str], *, talks: bool) -> tuple[TaskState, Part, Part]:
    if outcome.forgotten or outcome.status == "interrupted":
        return "canceled", None, None
    if outcome.error is not None:
        return "failed", error_text(outcome.error), None
    questions = interrupts_of(outcome.values)
    if questions:
        return "input-required", question_text(questions), None
    reply = reply_in(outcome.values, sent) if talks else None
    if reply is not None and reply.text is not None:
        return "completed", None, reply.text
    return "completed", None, storable(outcome.values)


def error_text(error: Mapping[str, Any]) -> str:
    """The error of a run in a sentence."""
    return f"{error.get('error')}: {error.get('message')}"


def history_of(kwargs: Mapping[str, Any]) -> list[TaskMessage]:
    """The messages from A2A that a run got."""
    given = kwargs.get("input")
    messages = given.get("messages") if isinstance(given, Mapping) else None
    return [
        TaskMessage(one["id"].removeprefix(MESSAGE_PREFIX), True, [one["content"]])
        for one in messages or ()
        if isinstance(one, Mapping) and str(one.get("id", "")).startswith(MESSAGE_PREFIX)
    ]
