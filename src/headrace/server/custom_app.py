"""The user's app and the API served as one: ``http.app`` of the manifest.

The user's app stays as it is. The innermost middleware (:class:`Fork`) sends the API's requests to
the API. So the app's own middleware wraps both. Its exception handlers and its router see only
requests that are not the API's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.auth.api_keys import HEADER, ApiKeys
from headrace.edge.prefix import path_below_prefix
from headrace.edge.refusals import error_response
from headrace.edge.state import state_of
from headrace.errors import StartupRefusal, StrangerRefused, Unauthenticated
from headrace.graphs.custom_app import custom_app_place
from headrace.graphs.http_entry import HttpEntry
from headrace.observability.user_code import described, fault_place
from headrace.server.api import ServedApi
from headrace.server.collisions import collisions_in, named, places_of
from headrace.server.lifespan import Lifespan

_log = structlog.stdlib.get_logger("headrace.server")

#: WebSocket close code 1008: policy violation.
_POLICY_VIOLATION = 1008


def with_api(
    app: Starlette, api: ServedApi, http: HttpEntry, lifespan: Lifespan, public: frozenset[str]
) -> Starlette:
    """``app`` itself, which now serves ``api`` too.

    :param public: paths of the API that need no key.
    """

    def needs_key(scope: Scope) -> bool:
        if serves(api, scope):
            return http.middleware_order == "auth_first" and path_below_prefix(scope) not in public
        return http.enable_custom_route_auth

    _tell_what_is_hidden(app, api, custom_app_place(str(http.app)))
    # Replace what an earlier call added: Python imports the user's module only once.
    ours: tuple[Any, ...] = (Fork, KeyGuard)
    own = [one for one in app.user_middleware if one.cls not in ours]
    guard = Middleware(KeyGuard, needs_key=needs_key)
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
    """Whether the API has a route with this path, for any method. It has none for WebSockets."""
    return scope["type"] == "http" and (
        api.table.find(scope) is not None
        or any(route.matches(scope)[0] is not Match.NONE for route in api.router.routes)
    )


class Fork:
    """The innermost middleware of the app: requests of the API go to the API, all others to the
    app.
    """

    def __init__(self, app: ASGIApp, api: ServedApi) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._api if serves(self._api, scope) else self._app)(scope, receive, send)


class KeyGuard:
    """Checks the key where ``needs_key`` says so. The API's own routes check it later by
    themselves.
    """

    def __init__(self, app: ASGIApp, needs_key: Callable[[Scope], bool]) -> None:
        self._app = app
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._needs_key(scope):
            request = HTTPConnection(scope)
            try:
                state_of(request).get(ApiKeys).check(request.headers.get(HEADER), scope)
            except (Unauthenticated, StrangerRefused) as error:
                if scope["type"] == "http":
                    await error_response(error)(scope, receive, send)
                else:
                    await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return
        await self._app(scope, receive, send)


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
