"""``/a2a/{assistant_id}`` and agent cards over HTTP."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Body, Path, Query, Request, Response

from headrace.a2a_door.cards import agent_card
from headrace.a2a_door.forms import TaskForm, Version
from headrace.a2a_door.requests import (
    NO_PUSH_NOTIFICATIONS,
    UNSUPPORTED_OPERATION,
    UNSUPPORTED_VERSION,
    a2a_error,
    history_length,
    sent_message,
    task_id_of,
)
from headrace.a2a_door.service import A2aService, StartedTask
from headrace.a2a_door.updates import TaskTelling
from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.doors.callers import DoorCaller
from headrace.doors.json_rpc import (
    METHOD_NOT_FOUND,
    RpcCall,
    RpcError,
    as_rpc_error,
    id_of,
    rpc_call,
    rpc_error,
    rpc_result,
)
from headrace.doors.responses import door_caller, door_stream, let_others_begin, noted_id, take_body
from headrace.edge.departures import ClientLeft
from headrace.edge.door_routes import DoorRoute
from headrace.edge.gates import lasting
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.requests import release_body
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided, state_of
from headrace.errors import AnswerTooLarge, BadRequest, InvalidRequest, NotFound, RequestError
from headrace.events.json_encoding import encode_json
from headrace.idempotency.schemas import RequestKey
from headrace.runs.responses import outcome_for_client
from headrace.settings import Settings

#: The methods of both versions, and what they do here.
_METHODS: Mapping[str, tuple[str, Version]] = {
    "message/send": ("send", "0.3"),
    "message/stream": ("stream", "0.3"),
    "tasks/get": ("get", "0.3"),
    "tasks/cancel": ("cancel", "0.3"),
    "tasks/resubscribe": ("follow", "0.3"),
    "SendMessage": ("send", "1.0"),
    "SendStreamingMessage": ("stream", "1.0"),
    "GetTask": ("get", "1.0"),
    "CancelTask": ("cancel", "1.0"),
    "SubscribeToTask": ("follow", "1.0"),
}
_UNSUPPORTED = (
    "ListTasks",
    "tasks/list",
    "GetExtendedAgentCard",
    "agent/getAuthenticatedExtendedCard",
)
_KNOWN_VERSIONS = ("0.3", "1.0")
_VERSION_HEADER = "a2a-version"


class A2aRoute(DoorRoute):
    """Answers errors as JSON-RPC does."""

    def form(self, detail: str, code: str, error: RequestError, request: Request) -> Any:
        return rpc_error(noted_id(request), as_rpc_error(error, detail))


router = new_router(tag="a2a", route_class=A2aRoute)
#: Cards are plain resources, whose errors are those of other routes.
card_router = new_router(tag="a2a", route_class=DoorRoute)

Service = Annotated[A2aService, provided(A2aService)]
PathAgentId = Annotated[
    str, Path(max_length=255, description="The name of a graph, or the id of an assistant.")
]


@router.post("/a2a/{assistant_id}/", response_class=Response, include_in_schema=False)
@router.post("/a2a/{assistant_id}", response_class=Response)
@lasting
async def answer_a2a(
    assistant_id: PathAgentId,
    principal: CurrentPrincipal,
    service: Service,
    key: IdempotencyKey,
    request: Request,
    body: Annotated[Any, Body()] = None,
) -> Response:
    """Send a call of the agent-to-agent protocol (A2A) to an assistant."""
    await take_body(request, body)
    try:
        call = rpc_call(body)
        _refuse_version(request.headers.get(_VERSION_HEADER))
        told = _Told(service, principal, assistant_id, call, key, request)
        return await told.answer()
    except RpcError as error:
        return json_response(rpc_error(id_of(body), error))
    except (BadRequest, InvalidRequest, NotFound, AnswerTooLarge) as error:
        return json_response(rpc_error(id_of(body), as_rpc_error(error)))


@card_router.get("/.well-known/agent-card.json", response_class=Response)
async def get_agent_card(
    principal: CurrentPrincipal,
    service: Service,
    request: Request,
    assistant_id: Annotated[
        str | None, Query(max_length=255, description="A graph, or the id of an assistant.")
    ] = None,
) -> Response:
    """Describe an assistant for other agents, as an agent card of A2A.

    Without `assistant_id` it is the graph behind `/chat`.
    """
    return await _card(service, principal, assistant_id or service.first, request)


@card_router.get("/a2a/{assistant_id}/.well-known/agent-card.json", response_class=Response)
async def get_card_of_agent(
    assistant_id: PathAgentId, principal: CurrentPrincipal, service: Service, request: Request
) -> Response:
    """Describe an assistant for other agents that know only the address of its endpoint."""
    return await _card(service, principal, assistant_id, request)


async def _card(
    service: A2aService, principal: Principal, assistant_id: str, request: Request
) -> Response:
    try:
        row = await service.assistant(principal, assistant_id)
    except RpcError as error:
        raise NotFound(error.message) from None
    settings = state_of(request).get(Settings)
    # Anybody can put any host into a request.
    base = (settings.server.public_url or str(request.base_url)).rstrip("/")
    url = f"{base}/a2a/{quote(assistant_id, safe='')}"
    needs_key = settings.credentials_needed
    body = encode_json(agent_card(row, url, needs_key=needs_key))
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    # The address in it may be that of this request, so no cache may share it.
    headers = {"Cache-Control": "private, max-age=60", "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _refuse_version(named: str | None) -> None:
    version = ".".join((named or _KNOWN_VERSIONS[0]).split(".")[:2])
    if version not in _KNOWN_VERSIONS:
        raise a2a_error(
            UNSUPPORTED_VERSION, f"A2A {version[:20]} is not spoken here, but {_KNOWN_VERSIONS}"
        )


class _Told:
    """One call and its answer."""

    def __init__(
        self,
        service: A2aService,
        principal: Principal,
        assistant_id: str,
        call: RpcCall,
        key: RequestKey | None,
        request: Request,
    ) -> None:
        self._service = service
        self._principal = principal
        self._assistant_id = assistant_id
        self._call = call
        self._request = request
        self._caller: DoorCaller = door_caller(request, principal, key)

    async def answer(self) -> Response:
        """
        :raises RpcError, RequestError: the call cannot be carried out.
        """
        method = self._call.method
        if method not in _METHODS:
            raise _no_method(method)
        act, version = _METHODS[method]
        form = TaskForm(version)
        if act in ("send", "stream"):
            return await self._send(form, streams=act == "stream")
        task_id = task_id_of(self._call.params)
        if act == "follow":
            started = await self._service.follow(self._principal, self._assistant_id, task_id)
            return self._stream(started, form, None)
        if act == "get":
            length = history_length(self._call.params)
            task = await self._service.get(self._principal, self._assistant_id, task_id)
            return self._result(form.task(task, length))
        task = await self._service.cancel(self._principal, self._assistant_id, task_id)
        return self._result(form.task(task))

    async def _send(self, form: TaskForm, *, streams: bool) -> Response:
        message = sent_message(self._call.params)
        let_others_begin(self._request, self._service.runs, self._principal)
        started = await self._service.send(
            self._caller, self._assistant_id, message, streams=streams
        )
        if streams:
            return self._stream(started, form, message.history_length)
        if not message.waits:
            return self._result(form.sent(started.begun(), message.history_length))
        release_body(self._request)
        outcome = await outcome_for_client(started.run, self._request)
        if outcome is None:
            return Response(status_code=ClientLeft.status)
        return self._result(form.sent(started.ended(outcome), message.history_length))

    def _stream(self, started: StartedTask, form: TaskForm, length: int | None) -> Response:
        telling = TaskTelling(started, form, self._call.call_id, length)
        # The task can be read and followed later: it goes on without this client.
        return door_stream(started.run, self._request, telling, on_disconnect=None)

    def _result(self, result: Any) -> Response:
        return json_response(rpc_result(self._call.call_id, result))


def _no_method(method: str) -> RpcError:
    if method in _UNSUPPORTED:
        return a2a_error(UNSUPPORTED_OPERATION, f"{method} is not supported by this agent.")
    if "ushNotification" in method:
        return a2a_error(NO_PUSH_NOTIFICATIONS, "This agent sends no push notifications.")
    return RpcError(METHOD_NOT_FOUND, f"There is no method {method[:100]!r}.")
