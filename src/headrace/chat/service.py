"""A message in, a reply out. Each message is a run on a thread."""

from collections.abc import Mapping
from typing import Any

from headrace.auth.handlers import Handlers
from headrace.auth.principal import ANONYMOUS, DEFAULT_TENANT, Principal
from headrace.chat.replies import interrupts_of, messages_of, reply_of
from headrace.chat.schemas import ChatReply, ChatRequest
from headrace.errors import Forbidden, InvalidRequest, RequestError, RunForgotten, ThreadNotFound
from headrace.following.followed_run import FollowedRun
from headrace.graphs.input_fields import InputFields
from headrace.idempotency.schemas import RequestKey
from headrace.ids import canonical_uuid, conversation_uuid
from headrace.queue.rows import RunOutcome
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService
from headrace.threads.service import ThreadService
from headrace.tracing.tracer import RequestTrace


class RunFailed(RequestError):
    """The run failed."""

    status = 500
    code = "run_failed"


class NotThisUser(Forbidden):
    """user_id names another user than the caller; leave it out."""

    code = "not_this_user"


class ChatService:
    def __init__(
        self,
        runs: RunService,
        threads: ThreadService,
        inputs: InputFields,
        graph_id: str,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self._runs = runs
        self._threads = threads
        self._inputs = inputs
        self._graph_id = graph_id

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

        For an authenticated caller, its identity is the ``user_id``.

        :raises InvalidRequest: the graph takes no messages, or waits for no answer.
        :raises ThreadNotFound: there is no such thread to resume.
        :raises NotThisUser: ``user_id`` names another user than the caller.
        """
        user_id = speaker(principal, body.user_id)
        await self._refuse_without_messages()
        if body.resumes:
            await self._refuse_without_question(principal, str(body.thread_id))
        thread_id = conversation_id(principal, body.thread_id)
        create = RunCreate(
            assistant_id=self._graph_id,
            **self._given(body),
            **_configuration(body, user_id),
            stream_mode=["messages-tuple", "updates"] if tokens else ["values"],
            # A thread that does not exist waits for no answer.
            if_not_exists="reject" if body.resumes else "create",
            on_completion="keep" if thread_id is None else None,
        )
        return await self._runs.create(
            principal,
            thread_id,
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
        reader = await self._handlers.authorize(
            principal, "threads", "read", {"thread_id": thread_id}
        )
        try:
            thread_id_of = str(conversation_id(principal, thread_id))
            thread = await self._threads.get(reader, thread_id_of)
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
        if fields := await self._inputs.without_messages(self._graph_id):
            raise self._no_messages(f"takes {', '.join(fields)} and no messages")

    def _no_messages(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"Graph '{self._graph_id}' {what}, which /chat needs. Send its input to POST /runs/wait"
            f' with {{"assistant_id": "{self._graph_id}"}}, or name another graph in'
            " HEADRACE_CHAT_GRAPH."
        )


def speaker(principal: Principal, named: str | None) -> str | None:
    """The user who speaks: the identity of an authenticated caller, else the one that is named.

    :raises NotThisUser: an authenticated caller names another user.
    """
    if principal.is_anonymous:
        return named
    if named not in (None, "", principal.identity):
        raise NotThisUser
    return principal.identity


def conversation_id(principal: Principal, name: str | None) -> str | None:
    """The id of the thread of a conversation that a caller names.

    Ids are of the whole server, and names are not: each caller with an identity has its own. A
    UUID is an id already.
    """
    if name is None or canonical_uuid(name) is not None:
        return name
    if (principal.tenant, principal.identity) == (DEFAULT_TENANT, ANONYMOUS.identity):
        return name
    return str(conversation_uuid(principal.tenant, principal.identity, name))


def _configuration(body: ChatRequest, user_id: str | None) -> dict[str, Any]:
    """The user id in ``context`` or ``config``, not in both: that is refused."""
    user = {"user_id": user_id} if user_id else {}
    if body.context is not None:
        return {"context": {**body.context, **user}}
    return {"config": {"configurable": user}} if user else {}
