"""A message in, a reply out: a thread and a run underneath, like every other."""

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
        #: The fields of its input, once they are known.
        self._taken: tuple[str, ...] | None = None

    async def start(
        self,
        principal: Principal,
        body: ChatRequest,
        *,
        request_id: str,
        tokens: bool,
        key: RequestKey | None,
        headers: Mapping[str, str],
    ) -> FollowedRun:
        """Start the run that answers; the thread is made if it is not there.

        An authenticated caller is who they are, whatever ``user_id`` says.

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
            # There is nothing to answer on a thread that is not there.
            if_not_exists="reject" if body.resumes else "create",
        )
        return await self._runs.create(
            principal,
            body.thread_id or str(uuid7()),
            create,
            request_id=request_id,
            any_thread_id=True,
            key=key,
            headers=headers,
        )

    def reply(self, run: FollowedRun, outcome: RunOutcome) -> ChatReply:
        """
        :raises RunFailed: with the graph's own error.
        :raises RunForgotten: an earlier try has made it, and it is gone.
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
                f"There is no conversation {thread_id}; begin one with message."
            ) from None
        if thread.status == "idle":
            raise InvalidRequest(
                "This conversation waits for no answer; send message instead of resume."
            )

    def _given(self, body: ChatRequest) -> dict[str, Any]:
        if body.resumes:
            return {"command": {"resume": body.resume}}
        return {"input": {"messages": [{"role": "user", "content": body.message}]}}

    async def _refuse_without_messages(self) -> None:
        """Before a run is made whose first node would fail."""
        if self._taken is None:
            self._taken = await self._takes()
        if self._taken and "messages" not in self._taken:
            raise self._no_messages(f"takes {', '.join(self._taken)} and no messages")

    async def _takes(self) -> tuple[str, ...]:
        """The fields of the graph's input; none where its schema does not tell."""
        try:
            schemas = await self._descriptions.schemas(self._graph_id, {})
        except Exception:
            # A graph that is made for each run need not be made without a configuration.
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
    """Either form reaches the graph as both; together they are refused."""
    user = {"user_id": user_id} if user_id else {}
    if body.context is not None:
        return {"context": {**body.context, **user}}
    return {"config": {"configurable": user}} if user else {}
