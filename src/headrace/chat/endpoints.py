"""``/chat`` and ``/chat/stream`` over HTTP."""

from typing import Annotated, Any

from fastapi import Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.chat.schemas import ChatReply, ChatRequest
from headrace.chat.service import ChatService
from headrace.edge.departures import ClientLeft
from headrace.edge.gates import lasting
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.request_traces import trace_of
from headrace.edge.requests import end_turn, release_body
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import configurable_headers, provided, request_id_of
from headrace.following.followed_run import FollowedRun
from headrace.idempotency.schemas import RequestKey
from headrace.runs.response_bodies import INTERRUPTS
from headrace.runs.responses import locations, outcome_for_client, streaming_response

router = new_router(tag="chat")

_SSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


Chat = Annotated[ChatService, provided(ChatService)]


@router.post("/chat", response_model=ChatReply)
@lasting
async def chat(
    body: ChatRequest,
    principal: CurrentPrincipal,
    service: Chat,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Send a message and get the reply.

    If `interrupts` is not empty, the graph waits: send the answer as `resume`. A new `message`
    begins a new turn and drops the question.
    """
    run = await _start(service, principal, body, key, request, tokens=False)
    # The run has its own copy of the input.
    release_body(request)
    if (outcome := await outcome_for_client(run, request)) is None:
        return Response(status_code=ClientLeft.status)
    return json_response(service.reply(run, outcome).model_dump(), headers=locations(run, "join"))


@router.post("/chat/stream", responses=_SSE, response_class=Response)
@lasting
async def chat_stream(
    body: ChatRequest,
    principal: CurrentPrincipal,
    service: Chat,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Send a message and stream the reply.

    `messages` events bring the reply in pieces. `interrupts` brings the questions that the graph
    waits for. `end` or `error` is the last event.
    """
    run = await _start(service, principal, body, key, request, tokens=True)
    return streaming_response(run, request, modes=("metadata", "messages-tuple", INTERRUPTS))


async def _start(
    service: ChatService,
    principal: Principal,
    body: ChatRequest,
    key: RequestKey | None,
    request: Request,
    *,
    tokens: bool,
) -> FollowedRun:
    if service.waits_for_place(principal):
        # Other requests need not wait until this one has its place.
        end_turn(request)
    return await service.start(
        principal,
        body,
        request_id=request_id_of(request),
        trace=trace_of(request),
        tokens=tokens,
        key=key,
        headers=configurable_headers(request),
    )
