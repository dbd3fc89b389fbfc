"""A message in, a reply out: a thread and a run underneath, like every other."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.chat.schemas import ChatReply, ChatRequest
from headrace.errors import InvalidRequest, RequestError, RunForgotten
from headrace.idempotency.schemas import RequestKey
from headrace.ids import uuid7
from headrace.runs.dispatcher import FollowedRun, RunOutcome
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService

#: The built-in graph's name, preferred when a manifest has one like it.
PREFERRED_GRAPH = "chat"


class RunFailed(RequestError):
    """The run failed."""

    status = 500
    code = "run_failed"


def chat_graph(graph_ids: Sequence[str], wanted: str) -> str:
    """The graph behind /chat: the setting, else ``chat``, else the first of the manifest."""
    if wanted:
        return wanted
    return PREFERRED_GRAPH if PREFERRED_GRAPH in graph_ids else graph_ids[0]


class ChatService:
    def __init__(self, runs: RunService, graph_id: str) -> None:
        self._runs = runs
        self._graph_id = graph_id

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
        """
        user_id = body.user_id if principal == ANONYMOUS else principal.identity
        create = RunCreate(
            assistant_id=self._graph_id,
            input={"messages": [{"role": "user", "content": body.message}]},
            config={"configurable": {"user_id": user_id}} if user_id else None,
            stream_mode=["messages-tuple"] if tokens else ["values"],
            if_not_exists="create",
        )
        return await self._runs.start(
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
        messages = self._messages(outcome.values)
        last = messages[-1] if messages else None
        return ChatReply(
            thread_id=run.thread_id,
            run_id=run.run_id,
            reply=last.text if last is not None and last.type == "ai" else None,
            messages=[message.model_dump() for message in messages],
        )

    def _messages(self, values: Any) -> list[BaseMessage]:
        messages = values.get("messages") if isinstance(values, dict) else None
        if not isinstance(messages, list):
            raise InvalidRequest(
                f"Graph '{self._graph_id}' keeps no list of messages, which /chat needs; use"
                " /runs/wait, or name another graph in HEADRACE_CHAT_GRAPH."
            )
        return [message for message in messages if isinstance(message, BaseMessage)]
