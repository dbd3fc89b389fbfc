"""Runs as tasks of A2A: sending messages, reading, following and stopping tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from headrace.a2a_door.requests import (
    TASK_NOT_CANCELABLE,
    UNSUPPORTED_OPERATION,
    SentMessage,
    a2a_error,
    task_not_found,
)
from headrace.a2a_door.tasks import (
    ENDED,
    MESSAGE_PREFIX,
    AgentTask,
    Part,
    TaskMessage,
    begun_task,
    ended_task,
    history_of,
)
from headrace.assistants.service import AssistantService
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.chat.service import conversation_id
from headrace.db.tables import AssistantRow, RunRow
from headrace.doors.callers import DoorCaller
from headrace.doors.json_rpc import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from headrace.doors.told_messages import TOLD_MODES
from headrace.errors import AssistantNotFound, InvalidRequest, ResumeRefused, RunNotFound
from headrace.following.followed_run import FollowedRun
from headrace.graphs.input_fields import InputFields
from headrace.json_text import json_text
from headrace.queue.rows import RunOutcome
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService

#: The metadata of a run that goes on with a task which another run has begun.
_TASK = "a2a_task_id"
#: So many of a thread's latest runs may go on with a task that is asked for.
_LOOKED_THROUGH = 100
#: A task that is asked to stop is answered after so long at the latest.
_STOP_SECONDS = 5.0
#: A task that has ended is read from the database, which takes so long at most.
_READ_SECONDS = 15.0
_RUNS_ON = ("pending", "running")


@dataclass(frozen=True, slots=True)
class StartedTask:
    """A task whose run goes on.

    :ivar talks: the graph takes messages, so its reply is a text.
    """

    run: FollowedRun
    task_id: str
    history: Sequence[TaskMessage]
    sent: Sequence[str]
    talks: bool

    def begun(self) -> AgentTask:
        """The task as it begins."""
        now = datetime.now(UTC)
        context_id = self.run.thread_id
        return AgentTask(self.task_id, context_id, "submitted", now, history=self.history)

    def ended(self, outcome: RunOutcome) -> AgentTask:
        """The task with the end of its run."""
        return ended_task(
            self.task_id,
            self.run.thread_id,
            outcome,
            self.history,
            self.sent,
            talks=self.talks,
        )


class A2aService:
    def __init__(
        self,
        runs: RunService,
        assistants: AssistantService,
        inputs: InputFields,
        first: str,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self.runs = runs
        self._assistants = assistants
        self._inputs = inputs
        #: The graph whose card is that of the server.
        self.first = first

    async def assistant(self, principal: Principal, reference: str) -> AssistantRow:
        """The assistant of a path.

        :raises RpcError: there is none.
        """
        try:
            user = await self._assistants.user(principal, reference)
            return await self._assistants.get_for_run(user, reference)
        except (AssistantNotFound, InvalidRequest) as error:
            raise RpcError(INVALID_PARAMS, error.message) from None

    async def send(
        self, caller: DoorCaller, reference: str, message: SentMessage, *, streams: bool
    ) -> StartedTask:
        """Start the run that a message makes: a new task, or the answer that a task waits for.

        :param streams: the caller follows the task from here on.
        :raises RpcError: the message cannot be given to the graph, or its task takes none.
        """
        row = await self.assistant(caller.principal, reference)
        talks = not await self._inputs.without_messages(row.graph_id)
        history = [TaskMessage(message.message_id, True, message.parts)]
        thread_id = conversation_id(caller.principal, message.context_id)
        if message.task_id is not None:
            given, thread_id = await self._answer(caller.principal, row, message)
        else:
            given = self._given(row, message, talks=talks)
        configurable = caller.configurable(None)
        create = RunCreate(
            assistant_id=reference,
            **given,
            config={"configurable": configurable} if configurable else None,
            stream_mode=list(TOLD_MODES) if streams else ["values"],
            if_not_exists="create" if thread_id is not None else None,
            on_completion="keep" if thread_id is None else None,
        )
        try:
            run = await self.runs.create(
                caller.principal,
                thread_id,
                create,
                any_thread_id=True,
                background=not (streams or message.waits),
                **caller.options(),
            )
        except ResumeRefused:
            raise _takes_no_message(str(message.task_id)) from None
        sent = [f"{MESSAGE_PREFIX}{message.message_id}"]
        return StartedTask(run, message.task_id or str(run.run_id), history, sent, talks)

    async def get(self, principal: Principal, reference: str, task_id: str) -> AgentTask:
        """A task as it is now.

        :raises RpcError: this assistant has no such task.
        """
        principal = await self._allowed(principal, "read", task_id)
        row = await self._latest_run(principal, reference, task_id)
        history = history_of(row.kwargs)
        if row.status in _RUNS_ON:
            return begun_task(row, task_id, history)
        run = await self.runs.follow(principal, row.thread_id, row.run_id)
        outcome = await run.outcome(_READ_SECONDS)
        if outcome is None:
            raise RpcError(INTERNAL_ERROR, "The task could not be read now; ask again.")
        sent = [f"{MESSAGE_PREFIX}{one.message_id}" for one in history]
        task = ended_task(
            task_id,
            row.thread_id,
            outcome,
            history,
            sent,
            talks=not await self._inputs.without_messages(row.graph_id),
            at=row.ended_at,
        )
        if row.interrupts and task.state == "completed":
            # Another run has answered or dropped the question meanwhile.
            return AgentTask(task_id, row.thread_id, "input-required", task.at, history=history)
        return task

    async def follow(self, principal: Principal, reference: str, task_id: str) -> StartedTask:
        """A task that goes on, to be followed from now on.

        :raises RpcError: there is no such task, or it goes on no longer.
        """
        principal = await self._allowed(principal, "read", task_id)
        row = await self._latest_run(principal, reference, task_id)
        if row.status not in _RUNS_ON:
            raise a2a_error(UNSUPPORTED_OPERATION, f"Task {task_id} goes on no longer; get it.")
        run = await self.runs.follow(principal, row.thread_id, row.run_id)
        talks = not await self._inputs.without_messages(row.graph_id)
        return StartedTask(run, task_id, history_of(row.kwargs), (), talks)

    async def cancel(self, principal: Principal, reference: str, task_id: str) -> AgentTask:
        """Stop a task.

        :raises RpcError: there is no such task, or it has ended.
        """
        principal = await self._allowed(principal, "update", task_id, action="interrupt")
        row = await self._latest_run(principal, reference, task_id)
        try:
            run = await self.runs.cancel(principal, row.thread_id, row.run_id, "interrupt")
        except RunNotFound:
            raise a2a_error(TASK_NOT_CANCELABLE, f"Task {task_id} has ended already") from None
        await run.ended(_STOP_SECONDS)
        now, history = datetime.now(UTC), history_of(row.kwargs)
        return AgentTask(task_id, row.thread_id, "canceled", now, history=history)

    async def _allowed(
        self, principal: Principal, action: str, task_id: str, /, **value: Any
    ) -> Principal:
        """The caller as it may do this with a task.

        :raises RequestError: it may not.
        """
        return await self._handlers.authorize(
            principal, "threads", action, {"run_id": task_id, **value}
        )

    async def _answer(
        self, principal: Principal, row: AssistantRow, message: SentMessage
    ) -> tuple[dict[str, Any], str]:
        """What a run gets that goes on with a task, and its thread."""
        task = await self.get(principal, str(row.assistant_id), str(message.task_id))
        if conversation_id(principal, message.context_id) not in (None, task.context_id):
            raise RpcError(INVALID_PARAMS, f"Task {task.task_id} is of another context")
        if task.state in ENDED or task.state != "input-required":
            raise _takes_no_message(task.task_id)
        resume: Part = _content(message.parts)
        if len(message.parts) == 1:
            resume = message.parts[0]
        given = {
            "command": {"resume": resume},
            "strict_resume": True,
            "metadata": {_TASK: task.task_id},
        }
        return given, task.context_id

    def _given(self, row: AssistantRow, message: SentMessage, *, talks: bool) -> dict[str, Any]:
        """What the run of a new task gets."""
        if talks:
            one = {
                "role": "user",
                "content": _content(message.parts),
                "id": f"{MESSAGE_PREFIX}{message.message_id}",
            }
            return {"input": {"messages": [one]}}
        if len(message.parts) == 1 and isinstance(message.parts[0], Mapping):
            return {"input": dict(message.parts[0])}
        raise RpcError(
            INVALID_PARAMS,
            f"Graph '{row.graph_id}' takes no messages: send one part of data, the graph's input.",
        )

    async def _latest_run(self, principal: Principal, reference: str, task_id: str) -> RunRow:
        """The run that decides on the state of a task."""
        assistant = await self.assistant(principal, reference)
        try:
            first = await self.runs.get(principal, None, UUID(task_id))
        except (RunNotFound, ValueError):
            raise task_not_found(task_id) from None
        if first.assistant_id != assistant.assistant_id or _TASK in first.metadata_:
            raise task_not_found(task_id)
        if not first.interrupts:
            return first
        with self.runs.reading() as reading:
            page = await self.runs.search(
                principal,
                first.thread_id,
                status=None,
                limit=_LOOKED_THROUGH,
                offset=0,
                reading=reading,
                without=("kwargs",),
            )
        later = (row for row in page.rows if row.metadata_.get(_TASK) == task_id)
        return next(later, first)


def _takes_no_message(task_id: str) -> RpcError:
    return a2a_error(
        UNSUPPORTED_OPERATION,
        f"Task {task_id} waits for no message; send the contextId alone for a new task.",
    )


def _content(parts: Sequence[Part]) -> str:
    """Parts as one text."""
    texts = [one if isinstance(one, str) else json_text(one).decode() for one in parts]
    return "\n".join(texts)
