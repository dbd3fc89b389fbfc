"""Tasks, messages and updates in the forms of A2A's two versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from headrace.a2a_door.tasks import AgentTask, Part, TaskMessage, TaskState

Version = Literal["0.3", "1.0"]

#: The name of what a task brings.
_OUTPUT = "reply"


@dataclass(frozen=True, slots=True)
class TaskForm:
    """The form of one version. 0.3 names the kind of each object, and 1.0 wraps it."""

    version: Version

    @property
    def _first(self) -> bool:
        return self.version == "0.3"

    def task(self, task: AgentTask, history_length: int | None = None) -> dict[str, Any]:
        """A task.

        :param history_length: so many messages at most; None: all.
        """
        history = task.history
        if history_length is not None:
            history = history[max(0, len(history) - history_length) :]
        told: dict[str, Any] = {
            "id": task.task_id,
            "contextId": task.context_id,
            "status": self.status(task.state, task.at, task, task.told),
        }
        if task.output is not None:
            told["artifacts"] = [self.artifact(_OUTPUT, [task.output])]
        if history:
            told["history"] = [self.message(one, task) for one in history]
        return {**told, "kind": "task"} if self._first else told

    def sent(self, task: AgentTask, history_length: int | None) -> dict[str, Any]:
        """The answer to a message."""
        told = self.task(task, history_length)
        return told if self._first else {"task": told}

    def status(
        self, state: TaskState, at: datetime, task: AgentTask, told: Part = None
    ) -> dict[str, Any]:
        """The state of a task, with a message of the agent if there is one."""
        named = state if self._first else f"TASK_STATE_{state.replace('-', '_').upper()}"
        status: dict[str, Any] = {"state": named, "timestamp": _time(at)}
        if told is not None:
            said = TaskMessage(f"{task.task_id}-{state}", False, [told])
            status["message"] = self.message(said, task)
        return status

    def status_update(self, task: AgentTask) -> dict[str, Any]:
        """An update that tells the state."""
        update = {
            "taskId": task.task_id,
            "contextId": task.context_id,
            "status": self.status(task.state, task.at, task, task.told),
        }
        if self._first:
            final = task.state not in ("submitted", "working")
            return {**update, "kind": "status-update", "final": final}
        return {"statusUpdate": update}

    def artifact_update(
        self, task: AgentTask, name: str, text: str, *, append: bool, last: bool
    ) -> dict[str, Any]:
        """An update that tells a piece of what the task brings."""
        update = {
            "taskId": task.task_id,
            "contextId": task.context_id,
            "artifact": self.artifact(name, [text]),
            "append": append,
            "lastChunk": last,
        }
        if self._first:
            return {**update, "kind": "artifact-update"}
        return {"artifactUpdate": update}

    def artifact(self, name: str, parts: Sequence[Part]) -> dict[str, Any]:
        """What a task brings."""
        return {"artifactId": name, "name": _OUTPUT, "parts": [self.part(one) for one in parts]}

    def message(self, message: TaskMessage, task: AgentTask) -> dict[str, Any]:
        """A message of a task."""
        if self._first:
            role = "user" if message.of_user else "agent"
        else:
            role = "ROLE_USER" if message.of_user else "ROLE_AGENT"
        told = {
            "messageId": message.message_id,
            "contextId": task.context_id,
            "taskId": task.task_id,
            "role": role,
            "parts": [self.part(one) for one in message.parts],
        }
        return {**told, "kind": "message"} if self._first else told

    def part(self, part: Part) -> dict[str, Any]:
        """A text, or data."""
        name = "text" if isinstance(part, str) else "data"
        if not self._first:
            return {name: part}
        if name == "data" and not isinstance(part, Mapping):
            # The data of this version is an object.
            part = {"value": part}
        return {"kind": name, name: part}


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
