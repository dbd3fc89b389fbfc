"""Chat completions and responses as runs of graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import Field

from headrace.assistants.schemas import AssistantFilter, AssistantSearch
from headrace.assistants.service import AssistantService
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.chat.service import conversation_id
from headrace.db.tables import AssistantRow
from headrace.doors.callers import DoorCaller
from headrace.doors.replies import no_messages
from headrace.doors.told_messages import TOLD_MODES
from headrace.errors import (
    AssistantNotFound,
    Conflict,
    InvalidRequest,
    NotFound,
    RunNotFound,
)
from headrace.following.followed_run import FollowedRun
from headrace.graphs.context import named_fields
from headrace.graphs.input_fields import InputFields
from headrace.graphs.registry import GraphRegistry
from headrace.ids import canonical_uuid
from headrace.openai_door.inputs import GraphMessage, of_completion, of_response
from headrace.openai_door.parameters import passed_on, refuse_options
from headrace.openai_door.schemas import CompletionRequest, ResponseRequest
from headrace.runs.schemas import RunCreate
from headrace.runs.service import RunService

#: The prefix of the ids of responses; the rest is the id of the run.
RESPONSE_PREFIX = "resp_"
#: The most assistants in the list of models.
_MOST_MODELS = 1000


class ModelSearch(AssistantFilter):
    """Which assistants are in the list of models, as handlers bound it."""

    limit: int | None = Field(None, ge=1, le=_MOST_MODELS)
    offset: int = Field(0, ge=0, le=2**31 - 1)


class ModelNotFound(NotFound):
    """There is no such model; GET /v1/models lists them."""

    code = "model_not_found"


class ResponseNotFound(NotFound):
    """There is no such response; one with store: false is not kept."""

    code = "response_not_found"


class NotTheLastResponse(Conflict):
    """The conversation has gone on since that response; send the id of its last one."""

    code = "not_the_last_response"


@dataclass(frozen=True, slots=True)
class StartedReply:
    """A run that makes a reply.

    :ivar sent: the ids of the messages that it got.
    :ivar lasting: it has a thread that stays.
    """

    run: FollowedRun
    sent: frozenset[str]
    lasting: bool


class OpenAIService:
    def __init__(
        self,
        runs: RunService,
        assistants: AssistantService,
        registry: GraphRegistry,
        inputs: InputFields,
        handlers: Handlers | None = None,
    ) -> None:
        self._handlers = handlers or Handlers()
        self.runs = runs
        self._assistants = assistants
        self._registry = registry
        self._inputs = inputs

    async def complete(self, caller: DoorCaller, body: CompletionRequest) -> StartedReply:
        """Start the run that answers a conversation.

        :raises ModelNotFound: there is no such graph or assistant.
        :raises InvalidRequest: the graph takes no messages, or a parameter would have no effect.
        """
        refuse_options(body.stream_options)
        thread_id = _conversation(caller.principal, body)
        return await self._start(
            caller, body, of_completion(body.messages), thread_id, keep=thread_id is not None
        )

    async def respond(self, caller: DoorCaller, body: ResponseRequest) -> StartedReply:
        """Start the run that answers a response's input.

        :raises ModelNotFound, InvalidRequest: as :meth:`complete`.
        :raises ResponseNotFound, NotTheLastResponse: there is nothing to go on from.
        """
        refuse_options(body.stream_options)
        thread_id = _conversation(caller.principal, body)
        if body.previous_response_id is not None:
            if thread_id is not None:
                raise InvalidRequest(
                    "previous_response_id and metadata.thread_id both name a conversation; send"
                    " one of them"
                )
            thread_id = await self._thread_of(caller.principal, body.previous_response_id)
        if body.store is False and thread_id is not None:
            raise InvalidRequest(
                "store: false keeps no conversation, but the request names one; leave one of the"
                " two out"
            )
        messages = of_response(body.input, body.instructions)
        return await self._start(caller, body, messages, thread_id, keep=body.store is not False)

    async def models(self, principal: Principal, which: ModelSearch) -> Sequence[AssistantRow]:
        """The assistants that the caller can see, newest first."""
        with self._assistants.reading() as reading:
            query = AssistantSearch(
                limit=which.limit or _MOST_MODELS,
                offset=which.offset,
                metadata=which.metadata,
                graph_id=which.graph_id,
            )
            rows, _ = await self._assistants.search(principal, query, reading)
            return rows

    async def model(self, principal: Principal, name: str) -> AssistantRow:
        """The assistant of a model.

        :raises ModelNotFound: there is none.
        """
        try:
            return await self._assistants.get_for_run(principal, name)
        except (AssistantNotFound, InvalidRequest) as error:
            raise ModelNotFound(error.message) from None

    async def _runnable(self, principal: Principal, name: str) -> AssistantRow:
        """:raises ModelNotFound: there is no such model, or the caller does not see it."""
        try:
            user = await self._assistants.user(principal, name)
        except InvalidRequest as error:
            raise ModelNotFound(error.message) from None
        return await self.model(user, name)

    async def _start(
        self,
        caller: DoorCaller,
        body: CompletionRequest | ResponseRequest,
        messages: Sequence[GraphMessage],
        thread_id: str | None,
        *,
        keep: bool,
    ) -> StartedReply:
        graph_id = (await self._runnable(caller.principal, body.model)).graph_id
        if fields := await self._inputs.without_messages(graph_id):
            raise no_messages(graph_id, f"takes {', '.join(fields)} and no messages")
        known = named_fields(self._registry.context_schema(graph_id))
        configurable = {
            **passed_on(body.model_extra, graph_id, known),
            **caller.configurable(body.user),
        }
        create = RunCreate(
            assistant_id=body.model,
            input={"messages": list(messages)},
            config={"configurable": configurable} if configurable else None,
            metadata=_labels(body),
            stream_mode=list(TOLD_MODES) if body.stream else ["values"],
            if_not_exists="create" if thread_id is not None else None,
            on_completion="keep" if keep and thread_id is None else None,
        )
        run = await self.runs.create(
            caller.principal, thread_id, create, any_thread_id=True, **caller.options()
        )
        return StartedReply(run, frozenset(one["id"] for one in messages), keep)

    async def _thread_of(self, principal: Principal, response_id: str) -> str:
        """The thread of an earlier response, if that was the last one.

        :raises ResponseNotFound, NotTheLastResponse: it cannot be gone on from.
        """
        run_id = canonical_uuid(response_id.removeprefix(RESPONSE_PREFIX))
        if run_id is None or not response_id.startswith(RESPONSE_PREFIX):
            raise ResponseNotFound
        principal = await self._handlers.authorize(
            principal, "threads", "read", {"run_id": UUID(run_id)}
        )
        try:
            run = await self.runs.get(principal, None, UUID(run_id))
        except RunNotFound:
            raise ResponseNotFound from None
        with self.runs.reading() as reading:
            page = await self.runs.search(
                principal,
                run.thread_id,
                status=None,
                limit=1,
                offset=0,
                reading=reading,
                without=("kwargs", "metadata"),
            )
        if [row.run_id for row in page.rows] != [run.run_id]:
            raise NotTheLastResponse
        return run.thread_id


def _conversation(principal: Principal, body: CompletionRequest | ResponseRequest) -> str | None:
    """The thread of the conversation that the request names."""
    return conversation_id(principal, body.metadata.thread_id if body.metadata else None)


def _labels(body: CompletionRequest | ResponseRequest) -> Mapping[str, Any] | None:
    return (body.metadata.model_extra or None) if body.metadata is not None else None
