"""The routes of the streaming protocol v3: commands, and the events of a thread."""

from typing import Annotated, Any

from fastapi import Body, Header, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.access import ThreadReader
from headrace.edge.gates import lasting_of_thread
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.request_traces import trace_of
from headrace.edge.requests import end_turn
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import configurable_headers, provided, request_id_of
from headrace.edge.streaming import StreamResponse
from headrace.errors import BadRequest
from headrace.events.sse import CONTENT_TYPE
from headrace.protocol.command_forms import (
    CommandRefused,
    command_of,
    id_of,
    refusal,
    with_deadline,
)
from headrace.protocol.commands import CommandRequest, ThreadCommands
from headrace.protocol.streams import ProtocolStreams
from headrace.protocol.subscription import MAX_NUMBER, subscription_of
from headrace.runs.endpoints import DeadlineSeconds
from headrace.threads.endpoints import PathThreadId

router = new_router(tag="threads")

Commands = Annotated[ThreadCommands, provided(ThreadCommands)]
Streams = Annotated[ProtocolStreams, provided(ProtocolStreams)]
#: The protocol's own rules say what is wrong, also of no body and of null.
AnyBody = Annotated[Any, Body()]

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`type` is `success`, or `error` with a code of the protocol",
        "content": {"application/json": {}},
    },
    400: {"description": "Not a command", "content": {"application/json": {}}},
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


def _with_example(body: dict[str, Any]) -> dict[str, Any]:
    """For the OpenAPI of a route whose body is checked by the protocol's own rules."""
    return {"requestBody": {"content": {"application/json": {"example": body}}}}


@router.post(
    "/threads/{thread_id}/commands",
    responses=_ANSWER,
    response_class=Response,
    openapi_extra=_with_example(
        {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": {}}}
    ),
)
async def send_command(
    thread_id: PathThreadId,
    principal: CurrentPrincipal,
    commands: Commands,
    key: IdempotencyKey,
    request: Request,
    body: AnyBody = None,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Send a command of the streaming protocol v3.

    `run.start` starts a run, and creates the thread if there is none; on a thread that waits for an
    answer, the input is the answer. `input.respond` answers interrupts by their ids.
    `agent.getTree` tells the subgraphs of the run that goes on.
    """
    try:
        command = with_deadline(command_of(body), deadline)
    except CommandRefused as refused:
        answer = json_response(refusal(refused, id_of(body)))
        answer.status_code = 400
        return answer
    asked = CommandRequest(
        request_id=request_id_of(request),
        trace=trace_of(request),
        key=key,
        headers=configurable_headers(request),
    )
    return json_response(await commands.carry_out(principal, thread_id, command, asked))


@router.post(
    "/threads/{thread_id}/stream/events",
    responses=_EVENTS,
    response_class=Response,
    openapi_extra=_with_example({"channels": ["lifecycle", "messages", "values"]}),
)
@lasting_of_thread
async def stream_events(
    thread_id: PathThreadId,
    principal: ThreadReader,
    streams: Streams,
    request: Request,
    body: AnyBody = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> Response:
    """Stream the events of a thread in the streaming protocol v3.

    The body names `channels`, and may limit `namespaces` and `depth`. `since`, or `Last-Event-ID`,
    is the `seq` after which the events are wanted. Without it, the stream begins with the run that
    goes on, or else with the last one. It does not end by itself.
    """
    subscription = subscription_of(_with_last_id(body, last_event_id))
    stream = await streams.open(principal, thread_id, subscription)
    end_turn(request)
    return StreamResponse(
        stream.frames(),
        media_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        on_disconnect=stream.close,
        endless=True,
    )


def _with_last_id(body: Any, last_event_id: str | None) -> Any:
    """The body, with the number that the header names if the body names none.

    :raises BadRequest: it is no number of an event.
    """
    if last_event_id is None or not isinstance(body, dict) or body.get("since") is not None:
        return body
    if not last_event_id.isascii() or not last_event_id.isdigit():
        raise BadRequest(f"Last-Event-ID: send the id of an event, a number up to {MAX_NUMBER}.")
    return {**body, "since": int(last_event_id)}
