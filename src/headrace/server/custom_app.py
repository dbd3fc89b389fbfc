"""The user's app and the API served as one: ``http.app`` of the manifest.

The user's app stays as it is. The innermost middleware (:class:`Fork`) sends the API's requests to
the API. So the app's own middleware wraps both. Its exception handlers and its router see only
requests that are not the API's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import structlog
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from headrace.admission_errors import ReadOnly
from headrace.auth.handlers import REQUEST, Handlers
from headrace.auth.identity import Identity
from headrace.auth.principal import Principal
from headrace.auth.user import user_of
from headrace.containment import contain
from headrace.edge.body_replay import replayed
from headrace.edge.callers import caller_of
from headrace.edge.departures import lost_of, unless_lost
from headrace.edge.gates import RequestGates
from headrace.edge.prefix import path_below_prefix
from headrace.edge.reading import reads
from headrace.edge.refusals import error_response
from headrace.edge.requests import BodyBounds, JSONRequest
from headrace.edge.state import State, found_state, state_of
from headrace.edge.web_pages import WebPages
from headrace.errors import RequestError, StartupRefusal
from headrace.graphs.custom_app import custom_app_place
from headrace.graphs.http_entry import HttpEntry
from headrace.observability.user_code import described, fault_place
from headrace.server.api import ServedApi
from headrace.server.collisions import collisions_in, named, places_of
from headrace.server.lifespan import Lifespan
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.server")

#: What a request must bring, and what is checked: its key, and whether it may write.
Need = Literal["nothing", "key", "key and scope"]

#: WebSocket close code 1008: policy violation.
_POLICY_VIOLATION = 1008

_CONNECTIONS = ("http", "websocket")
#: The extension of a server that can answer a refused WebSocket with a status and a body.
_DENIAL = "websocket.http.response"


def with_api(
    app: Starlette, api: ServedApi, http: HttpEntry, lifespan: Lifespan, public: frozenset[str]
) -> Starlette:
    """``app`` itself, which now serves ``api`` too.

    :param public: paths of the API that need no key.
    """

    def needs(scope: Scope) -> Need:
        if serves(api, scope):
            first = http.middleware_order == "auth_first"
            return "key" if first and path_below_prefix(scope) not in public else "nothing"
        return "key and scope" if http.enable_custom_route_auth else "nothing"

    _tell_what_is_hidden(app, api, custom_app_place(str(http.app)))
    # Replace what an earlier call added: Python imports the user's module only once.
    ours: tuple[Any, ...] = (Fork, KeyGuard)
    own = [one for one in app.user_middleware if one.cls not in ours]
    guard = Middleware(KeyGuard, needs=needs)
    fork = Middleware(Fork, api=api)
    first = http.middleware_order == "auth_first"
    app.user_middleware[:] = [guard, *own, fork] if first else [*own, guard, fork]
    # An earlier call may have built the stack. Starlette builds it anew.
    app.middleware_stack = None
    app_lifespan = app.router.lifespan_context
    if isinstance(app_lifespan, BothLifespans):
        app_lifespan = app_lifespan.app_lifespan
    app.router.lifespan_context = BothLifespans(
        lifespan, app_lifespan, custom_app_place(str(http.app))
    )
    return app


def _tell_what_is_hidden(app: Starlette, api: ServedApi, where: str) -> None:
    """Log the app's routes that never answer. As on LangGraph's server, they cannot replace routes
    of the API.
    """
    # FastAPI's own pages about the app: the user did not write them.
    about = {getattr(app, name, None) for name in ("docs_url", "redoc_url", "openapi_url")}
    app_places = [place for place in places_of(app.routes) if place.path not in about]
    places = [*places_of(api.routes), *app_places]
    for one in collisions_in(places, by_path=True):
        if one.first.ours and one.hidden == "all" and not one.second.mount:
            _log.warning(
                "route_hidden",
                route=named(one.second),
                request=one.request,
                answered_by=f"the API ({named(one.first)})",
                remedy=f"give the route of {where} another path",
            )


def has_cors(app: Starlette) -> bool:
    """Whether the app has a CORS middleware of its own."""
    kinds = [one.cls for one in app.user_middleware]
    return any(isinstance(kind, type) and issubclass(kind, CORSMiddleware) for kind in kinds)


def serves(api: ServedApi, scope: Scope) -> bool:
    """Whether the API has a route with this path: for any method, or for WebSockets."""
    if scope["type"] == "http" and api.table.find(scope) is not None:
        return True
    return scope["type"] in _CONNECTIONS and any(
        route.matches(scope)[0] is not Match.NONE for route in api.router.routes
    )


class Fork:
    """The innermost middleware of the app: requests of the API go to the API, all others to the
    app.
    """

    def __init__(self, app: ASGIApp, api: ServedApi) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if serves(self._api, scope):
            await self._api(scope, receive, send)
        elif scope["type"] != "http" or (state := found_state(scope.get("state", {}))) is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(state.get(RequestGates), scope, receive, send)

    async def _answer(
        self, gates: RequestGates, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let the app answer while a place is held: its answers may last, for strangers too."""
        try:
            held = gates.request_of_app(caller_of(scope))
        except RequestError as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            held.release()


class KeyGuard:
    """Finds out who calls where ``needs`` says so, and tells the app as ``request.user``. The API's
    own routes do it later by themselves, and they know which of them only read.
    """

    def __init__(self, app: ASGIApp, needs: Callable[[Scope], Need]) -> None:
        self._app = app
        self._needs = needs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        need = self._needs(scope) if scope["type"] in _CONNECTIONS else "nothing"
        if need != "nothing":
            try:
                contain()
                state = state_of(scope.get("state", {}))
                state.get(WebPages).check_host(scope)
                receive = _prepare(scope, receive, state)
                found = state.get(Identity).principal(scope)
                principal = await unless_lost(found, lost_of(scope))
                _tell_user(scope, principal, state.get(Handlers))
                if principal.read_only and need == "key and scope" and not reads(scope):
                    raise ReadOnly
            except RequestError as error:
                if scope["type"] == "http":
                    await error_response(error)(scope, receive, send)
                elif _DENIAL in scope.get("extensions", {}):
                    socket = WebSocket(scope, receive, send)
                    await socket.send_denial_response(error_response(error))
                else:
                    await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return
        await self._app(scope, receive, send)


def _prepare(scope: Scope, receive: Receive, state: State) -> Receive:
    """Give the request to a handler that asks for it. The app gets the body that it reads, too."""
    if scope["type"] != "http" or not state.get(Handlers).wants_body:
        scope[REQUEST] = HTTPConnection(scope)
        return receive
    request = JSONRequest(scope, receive)
    settings = state.get(Settings)
    request.max_body_bytes = settings.server.max_body_bytes
    request.bounds = BodyBounds.of(settings.requests)
    scope[REQUEST] = request
    return replayed(request, receive)


def _tell_user(scope: Scope, principal: Principal, handlers: Handlers) -> None:
    # Without handlers, a middleware of the app may have found its own user before.
    if handlers.authenticates or "user" not in scope:
        scope["user"] = user_of(principal)
        scope["auth"] = AuthCredentials(list(principal.permissions))


class BothLifespans:
    """headrace's lifespan, and inside it the app's own, which starts later and ends earlier."""

    def __init__(self, ours: Lifespan, app_lifespan: Any, where: str) -> None:
        self._ours = ours
        self.app_lifespan = app_lifespan
        self._where = where

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        """:raises StartupRefusal: one of the two lifespans does not start."""
        async with self._ours(app) as state, AsyncExitStack() as stack:
            try:
                own = await stack.enter_async_context(self.app_lifespan(app))
            except StartupRefusal:
                raise
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                _log.error("custom_app_failed", path=self._where, exc_info=error)
                raise _does_not_start(self._where, error) from error
            yield {**(own or {}), **state}


def _does_not_start(where: str, error: BaseException) -> StartupRefusal:
    place = fault_place(error)
    at = f" ({place})" if place else ""
    return StartupRefusal(
        "HR107",
        where=where,
        what=f"its lifespan raised {described(error).rstrip('.')}{at}",
        remedy="Correct that line; the traceback is above.",
    )
