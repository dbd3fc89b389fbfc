"""The API as the server serves it: FastAPI declares the endpoints, and this app calls most of them.

See docs/adr/0022-routes-are-found-by-hash.md.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from types import FunctionType
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from headrace.edge.exchange import exchange_of
from headrace.edge.head_requests import as_get, without_body
from headrace.edge.route_table import RouteTable
from headrace.graphs.auth_entry import AuthOpenApiEntry
from headrace.server.openapi import Proofs, completed, described, joined, with_security

#: How long it may take to notice that FastAPI, or a tool that observes it, traces requests now.
_LOOK_SECONDS = 1.0

_Handler = Callable[[Request, HTTPException], Awaitable[Response]]


class ServedApi(FastAPI):
    """The API with its description. ``beside`` is the user's app that is served with it."""

    beside: Starlette | None = None
    #: How callers prove who they are.
    proofs = Proofs()
    #: How callers prove to the user's handlers who they are.
    security: AuthOpenApiEntry | None = None
    #: The doors that are open.
    doors: frozenset[str] = frozenset()
    _traced = False
    _observed = False
    _look_at = 0.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: The routes that are called directly.
        self.table = RouteTable(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (exchange := exchange_of(scope)) is not None:
            exchange.of_api = True
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["method"] != "HEAD":
            await self._respond(scope, receive, send)
        else:
            with as_get(scope) as inner:
                await self._respond(inner, receive, without_body(send))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint directly if it is known, else through the framework."""
        found = self.table.find(scope)
        if found is None or self.user_middleware or self._is_traced(scope):
            await super().__call__(scope, receive, send)
            return
        route, parameters = found
        scope["app"] = self
        scope["router"] = self.router
        scope["endpoint"] = route.endpoint
        scope["path_params"] = {**scope.get("path_params", {}), **parameters}
        scope["route"] = route
        try:
            await route.answer(scope, receive, send)
        except HTTPException as error:
            handler = cast("_Handler", self.exception_handlers[HTTPException])
            response = await handler(Request(scope, receive), error)
            await response(scope, receive, send)

    def _is_traced(self, scope: Scope) -> bool:
        """Whether FastAPI, or a tool that observes it, makes spans and metrics of the request. A
        graph may begin that at any time.
        """
        if (now := monotonic()) >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            own = getattr(self, "_native_telemetry", None)
            self._traced = own is not None and own.enabled()
            self._observed = self._is_observed()
        return self._observed or (self._traced and "fastapi.telemetry" not in scope)

    def _is_observed(self) -> bool:
        """Whether somebody has put functions into the framework, as Sentry and OpenTelemetry do."""
        parts = (Starlette.__call__, FastAPI.__call__, FastAPI.build_middleware_stack)
        return "build_middleware_stack" in vars(self) or not all(
            isinstance(part, FunctionType)
            and part.__globals__["__name__"] in ("starlette.applications", "fastapi.applications")
            for part in parts
        )

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            own = completed(super().openapi(), self.proofs)
            if self.security is not None:
                own = with_security(own, self.security)
            if self.beside is not None:
                own = joined(own, described(self.beside))
            self.openapi_schema = own
        return self.openapi_schema
