"""A message in, a reply out. Each message is a run on a thread."""

from collections.abc import Mapping
from typing import Any

import structlog

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.chat.replies import interrupts_of, messages_of, reply_of
from headrace.chat.schemas import ChatReply, ChatRequest
from headrace.errors import InvalidRequest, RequestError, RunForgotten, ThreadNotFound
from headrace.following.followed_run import FollowedRun
from headrace.graphs.descriptions import GraphDescriptions
from headrace.idempotency.schemas import RequestKey
from headrace.ids import uuid7
from headrace.queue.rows import RunOutcome
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService
from headrace.threads.service import ThreadService
from headrace.tracing.tracer import RequestTrace

_log = structlog.stdlib.get_logger("headrace.chat")


class RunFailed(RequestError):
    """The run failed."""

    status = 500
    code = "run_failed"


class ChatService:
    def __init__(
        self,
        runs: RunService,
        threads: ThreadService,
        descriptions: GraphDescriptions,
        graph_id: str,
    ) -> None:
        self._runs = runs
        self._threads = threads
        self._descriptions = descriptions
        self._graph_id = graph_id
        #: The fields of the graph's input; None until they are read.
        self._input_fields: tuple[str, ...] | None = None

    async def start(
        self,
        principal: Principal,
        body: ChatRequest,
        *,
        request_id: str,
        trace: RequestTrace,
        tokens: bool,
        key: RequestKey | None,
        headers: Mapping[str, str],
    ) -> FollowedRun:
        """Start the run that answers. A message to an unknown thread creates the thread.

        For an authenticated caller, the identity of the caller replaces ``user_id``.

        :raises InvalidRequest: the graph takes no messages, or waits for no answer.
        :raises ThreadNotFound: there is no such thread to resume.
        """
        await self._refuse_without_messages()
        if body.resumes:
            await self._refuse_without_question(principal, str(body.thread_id))
        user_id = body.user_id if principal == ANONYMOUS else principal.identity
        create = RunCreate(
            assistant_id=self._graph_id,
            **self._given(body),
            **_configuration(body, user_id),
            stream_mode=["messages-tuple", "updates"] if tokens else ["values"],
            # A thread that does not exist waits for no answer.
            if_not_exists="reject" if body.resumes else "create",
        )
        return await self._runs.create(
            principal,
            body.thread_id or str(uuid7()),
            create,
            request_id=request_id,
            trace=trace,
            any_thread_id=True,
            key=key,
            headers=headers,
        )

    def waits_for_place(self, principal: Principal) -> bool:
        """Whether the run would wait here for a place."""
        return self._runs.waits_for_place(principal)

    def reply(self, run: FollowedRun, outcome: RunOutcome) -> ChatReply:
        """The answer of ``/chat`` from the outcome of its run.

        :raises RunFailed: the run failed; the message is the error of the graph.
        :raises RunForgotten: an earlier request with this key created the run, and it is deleted.
        """
        if outcome.forgotten:
            raise RunForgotten
        if outcome.error is not None:
            raise RunFailed(f"{outcome.error['error']}: {outcome.error['message']}")
        messages, interrupts = messages_of(outcome.values), interrupts_of(outcome.values)
        if messages is None and not interrupts:
            raise self._no_messages("keeps no list of messages")
        return ChatReply(
            thread_id=run.thread_id,
            run_id=run.run_id,
            reply=None if interrupts else reply_of(messages or ()),
            interrupts=interrupts,
            messages=[message.model_dump() for message in messages or ()],
        )

    async def _refuse_without_question(self, principal: Principal, thread_id: str) -> None:
        try:
            thread = await self._threads.get(principal, thread_id)
        except (InvalidRequest, ThreadNotFound):
            raise ThreadNotFound(
                f"There is no conversation {thread_id}; send message to begin one."
            ) from None
        if thread.status == "idle":
            raise InvalidRequest("This conversation waits for no answer; send message, not resume.")

    def _given(self, body: ChatRequest) -> dict[str, Any]:
        if body.resumes:
            return {"command": {"resume": body.resume}}
        return {"input": {"messages": [{"role": "user", "content": body.message}]}}

    async def _refuse_without_messages(self) -> None:
        """Refuse a graph without messages: its first node would fail.

        :raises InvalidRequest: the input schema of the graph has no ``messages``.
        """
        if self._input_fields is None:
            self._input_fields = await self._read_input_fields()
        if self._input_fields and "messages" not in self._input_fields:
            raise self._no_messages(f"takes {', '.join(self._input_fields)} and no messages")

    async def _read_input_fields(self) -> tuple[str, ...]:
        """The fields of the graph's input; none if its schema does not name them."""
        try:
            schemas = await self._descriptions.schemas(self._graph_id, {})
        except Exception:
            # A factory that makes a graph for each run may need the configuration of a run.
            _log.info("chat_graph_not_described", graph_id=self._graph_id, exc_info=True)
            return ()
        properties = (schemas.get("input_schema") or {}).get("properties")
        return tuple(properties or ())

    def _no_messages(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"Graph '{self._graph_id}' {what}, which /chat needs. Send its input to POST /runs/wait"
            f' with {{"assistant_id": "{self._graph_id}"}}, or name another graph in'
            " HEADRACE_CHAT_GRAPH."
        )


def _configuration(body: ChatRequest, user_id: str | None) -> dict[str, Any]:
    """The user id in ``context`` or ``config``, not in both: that is refused."""
    user = {"user_id": user_id} if user_id else {}
    if body.context is not None:
        return {"context": {**body.context, **user}}
    return {"config": {"configurable": user}} if user else {}
