"""``/v1/chat/completions``, ``/v1/responses`` and ``/v1/models`` over HTTP."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import Path, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.chat.service import RunFailed
from headrace.db.tables import AssistantRow
from headrace.doors.replies import Reply, reply_of_run
from headrace.doors.responses import DoorTelling, door_caller, door_stream, let_others_begin
from headrace.edge.access import CurrentAccess, id_for_handlers
from headrace.edge.departures import ClientLeft
from headrace.edge.door_routes import DoorRoute
from headrace.edge.gates import lasting, lists
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.requests import release_body
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided
from headrace.errors import RequestError
from headrace.ids import system_assistant_id
from headrace.openai_door.answers import ResponseForm, ResponseTelling
from headrace.openai_door.completions import CompletionTelling, completion
from headrace.openai_door.errors import error_body
from headrace.openai_door.schemas import CompletionRequest, ResponseRequest
from headrace.openai_door.service import ModelSearch, OpenAIService, StartedReply
from headrace.runs.responses import locations, outcome_for_client
from headrace.runs.service import RunService

_BAD_REQUEST = 400


class OpenAIRoute(DoorRoute):
    """Answers errors as OpenAI does."""

    statuses: ClassVar[Mapping[int, int]] = {422: _BAD_REQUEST}

    def more_headers(self, error: RequestError) -> Mapping[str, str]:
        # OpenAI's clients send a request again after a 500: that would run the graph again.
        return {"x-should-retry": "false"} if isinstance(error, RunFailed) else {}

    def form(self, detail: str, code: str, error: RequestError, request: Request) -> Any:
        return error_body(detail, code, self.statuses.get(error.status, error.status))


router = new_router(tag="openai", route_class=OpenAIRoute)

Service = Annotated[OpenAIService, provided(OpenAIService)]
_SSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The reply; streamed, server-sent events"}
}


@router.post("/v1/chat/completions", responses=_SSE, response_class=Response)
@lasting
async def create_completion(
    body: CompletionRequest,
    principal: CurrentPrincipal,
    service: Service,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Send a conversation and get the reply of a graph, as a chat completion of OpenAI."""
    let_others_begin(request, service.runs, principal)
    started = await service.complete(door_caller(request, principal, key), body)
    run = started.run
    if body.stream:
        options = body.stream_options
        telling = CompletionTelling(run, body.model, bool(options and options.include_usage))
        return _stream(started, request, telling)
    reply = await _reply(started, request, service.runs)
    if reply is None:
        return Response(status_code=ClientLeft.status)
    return json_response(completion(run, body.model, reply), headers=locations(run, "join"))


@router.post("/v1/responses", responses=_SSE, response_class=Response)
@lasting
async def create_response(
    body: ResponseRequest,
    principal: CurrentPrincipal,
    service: Service,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Send an input and get the reply of a graph, as a response of OpenAI."""
    let_others_begin(request, service.runs, principal)
    started = await service.respond(door_caller(request, principal, key), body)
    form = ResponseForm(started.run, body, started.lasting)
    if body.stream:
        return _stream(started, request, ResponseTelling(form))
    reply = await _reply(started, request, service.runs)
    if reply is None:
        return Response(status_code=ClientLeft.status)
    return json_response(form.whole(reply), headers=locations(started.run, "join"))


@router.get("/v1/models", response_class=Response)
@lists
async def list_models(access: CurrentAccess, service: Service) -> Response:
    """List graphs and assistants as models of OpenAI."""
    principal, wanted = await access.to_send(
        "assistants", "search", ModelSearch(), ("graph_id", "limit", "offset")
    )
    rows = await service.models(principal, wanted)
    shown = [_model(row) for row in rows]
    return json_response({"object": "list", "data": shown})


@router.get("/v1/models/{model}", response_class=Response)
async def get_model(
    model: Annotated[str, Path(max_length=255, description="A graph, or an assistant's id.")],
    access: CurrentAccess,
    service: Service,
) -> Response:
    """Read a graph or an assistant as a model of OpenAI."""
    principal = await access.to(
        "assistants", "read", assistant_id=id_for_handlers("assistant_id", model)
    )
    return json_response(_model(await service.model(principal, model)))


def _stream(started: StartedReply, request: Request, telling: DoorTelling) -> Response:
    # Nobody can read the reply of a run without a thread later.
    on_disconnect = None if started.lasting else "cancel"
    return door_stream(started.run, request, telling, on_disconnect=on_disconnect)


async def _reply(started: StartedReply, request: Request, runs: RunService) -> Reply | None:
    """What the run has said; None if the client has left."""
    release_body(request)
    outcome = await outcome_for_client(started.run, request)
    if outcome is None:
        if not started.lasting:
            runs.cancel_soon(started.run, "client disconnected before the run ended")
        return None
    return reply_of_run(started.run, outcome, started.sent)


def _model(row: AssistantRow) -> dict[str, Any]:
    """A graph by its name, and any other assistant by its id."""
    of_graph = row.assistant_id == system_assistant_id(row.graph_id)
    return {
        "id": row.graph_id if of_graph else str(row.assistant_id),
        "object": "model",
        "created": int(row.created_at.timestamp()),
        "owned_by": "headrace",
        "name": row.name,
        "description": row.description,
    }
