"""``/mcp`` over HTTP: streamable HTTP without sessions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import Body, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.doors.json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RpcCall,
    RpcError,
    as_rpc_error,
    id_of,
    rpc_call,
    rpc_error,
    rpc_result,
)
from headrace.doors.responses import (
    door_caller,
    ending_stream,
    let_others_begin,
    noted_id,
    take_body,
)
from headrace.edge.departures import ClientLeft
from headrace.edge.door_routes import DoorRoute
from headrace.edge.gates import lasting
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.requests import release_body
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided
from headrace.errors import RequestError
from headrace.events.json_encoding import encode_json
from headrace.idempotency.schemas import RequestKey
from headrace.mcp_door.service import UNKEPT, McpService, server_info, tool_result
from headrace.mcp_door.versions import HEADER_MISMATCH, UNSUPPORTED_VERSION, is_modern, names_newer
from headrace.queue.rows import RunOutcome
from headrace.runs.responses import outcome_for_client

_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
_ACCEPTED = 202

#: The status of an error in the newest version. Before it, an error was an answer like others.
_STATUSES = {
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}


class McpRoute(DoorRoute):
    """Answers errors as JSON-RPC does."""

    statuses: ClassVar[Mapping[int, int]] = {422: 400}

    def form(self, detail: str, code: str, error: RequestError, request: Request) -> Any:
        return rpc_error(noted_id(request), as_rpc_error(error, detail))


router = new_router(tag="mcp", route_class=McpRoute)

Service = Annotated[McpService, provided(McpService)]


@router.post("/mcp/", response_class=Response, include_in_schema=False)
@router.post("/mcp", response_class=Response)
@lasting
async def answer_mcp(
    principal: CurrentPrincipal,
    service: Service,
    key: IdempotencyKey,
    request: Request,
    body: Annotated[Any, Body()] = None,
) -> Response:
    """Send a call of the Model Context Protocol. Each assistant is a tool."""
    modern = names_newer(request.headers)
    await take_body(request, body)
    try:
        call = rpc_call(body)
        modern = is_modern(call, request.headers)
        if not call.wants_answer:
            return Response(status_code=_ACCEPTED)
        if call.method == "tools/call":
            return await _call_tool(service, principal, call, key, request, modern=modern)
        return _answer(call, await service.answer(principal, call), modern=modern)
    except RpcError as error:
        unfit = error.number in (HEADER_MISMATCH, UNSUPPORTED_VERSION, INVALID_REQUEST)
        status = _STATUSES.get(error.number, 200) if modern or unfit else 200
        response = json_response(rpc_error(id_of(body), error))
        response.status_code = status
        return response


async def _call_tool(
    service: McpService,
    principal: Principal,
    call: RpcCall,
    key: RequestKey | None,
    request: Request,
    *,
    modern: bool,
) -> Response:
    let_others_begin(request, service.runs, principal)
    run = await service.start(door_caller(request, principal, key), call.params)

    def last(outcome: RunOutcome) -> bytes:
        result = _stamped(tool_result(outcome), modern=modern)
        return encode_json(rpc_result(call.call_id, result))

    def refused(error: RequestError) -> bytes:
        return encode_json(rpc_error(call.call_id, as_rpc_error(error)))

    if "text/event-stream" in request.headers.get("accept", ""):
        # A stream, so that heartbeats can keep the connection open.
        return ending_stream(run, request, last, refused)
    release_body(request)
    outcome = await outcome_for_client(run, request)
    if outcome is None:
        service.runs.cancel_soon(run, "client disconnected before the run ended")
        return Response(status_code=ClientLeft.status)
    return Response(last(outcome), media_type="application/json")


def _answer(call: RpcCall, result: dict[str, Any], *, modern: bool) -> Response:
    return json_response(rpc_result(call.call_id, _stamped(result, modern=modern)))


def _stamped(result: dict[str, Any], *, modern: bool) -> Mapping[str, Any]:
    """The result with what its version wants."""
    if not modern:
        return {name: value for name, value in result.items() if name not in UNKEPT}
    return {**result, "resultType": "complete", "_meta": {_SERVER_INFO: server_info()}}
