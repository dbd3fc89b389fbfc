"""Pure ASGI middleware: a request id for all log lines, one access log line, HTTP metrics."""

import re
from contextlib import ExitStack
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.edge.prefix import path_below_prefix
from headrace.edge.request_traces import begin_trace, end_trace
from headrace.edge.routing import error_response
from headrace.edge.state import found_state
from headrace.edge.streaming import accept_bodies, drop_handed, send_handed
from headrace.errors import TooManyPublicRequests
from headrace.graphs.http_entry import HeaderRules
from headrace.ids import uuid7
from headrace.observability.metrics import Metrics
from headrace.shares import Gate, Places

_log = structlog.stdlib.get_logger("headrace.access")

#: A request id of the caller is used if it looks like this; else the middleware makes one.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

#: The label of requests that match no route, so that scanners cannot create new series.
UNMATCHED = "__unmatched__"

_METHOD_NOT_ALLOWED = 405

_RUN_PATH = re.compile(r"/runs/([0-9a-f-]{36})$")

#: Probes ask for these every few seconds. They are logged at debug.
_QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics", "/ok"})

#: Requests to these need no key, as a rule. The process works on a few of them at once, and the
#: others wait: a flood of them must not delay requests with a key.
_PUBLIC = (_QUIET | {"/health", "/info", "/docs", "/openapi.json"}) - {"/metrics"}
_PUBLIC_AT_ONCE = 4
_PUBLIC_SECONDS = 15.0


class Middleware:
    """Wraps a whole app. Without headrace's lifespan it works, but records no metrics.

    :param plain_inside: no middleware between this one and the endpoints changes bodies. Then this
        one frees the framework's objects first, and sends the bodies of streams itself.
    :param logged_headers: request headers for the access log; default: none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        plain_inside: bool = False,
        logged_headers: HeaderRules | None = None,
    ) -> None:
        self.app = app
        self._plain_inside = plain_inside
        self._logged_headers = logged_headers
        self._public = Gate(Places(_PUBLIC_AT_ONCE), timeout_seconds=_PUBLIC_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _PLAIN_ID.fullmatch(given) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id
        trace = begin_trace(scope, quiet=path_below_prefix(scope) in _QUIET)
        status, run_id = 500, None
        started = perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status, run_id
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                run_id = _run_of(headers.get("content-location"))
            await send(message)

        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=request_id, **trace.log_fields):
            try:
                if path_below_prefix(scope) in _PUBLIC:
                    await self._answer_public(scope, receive, send_with_id)
                elif self._plain_inside:
                    handed = accept_bodies(scope)
                    try:
                        await self.app(scope, receive, send_with_id)
                        await send_handed(handed, scope, receive, send)
                    finally:
                        drop_handed(handed)
                else:
                    await self.app(scope, receive, send_with_id)
            finally:
                end_trace(scope, trace, status, unmatched=status == _METHOD_NOT_ALLOWED)
                self._record(scope, status, perf_counter() - started, run_id)

    async def _answer_public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for a turn among public requests. The turn ends when the answer begins."""
        try:
            await self._public.take("")
        except TimeoutError:
            await error_response(TooManyPublicRequests())(scope, receive, send)
            return
        with ExitStack() as turn:
            turn.callback(self._public.release, "")

            async def send_after_turn(message: Message) -> None:
                # A slow client must not hold the turn.
                turn.close()
                await send(message)

            await self.app(scope, receive, send_after_turn)

    def _record(self, scope: Scope, status: int, seconds: float, run_id: str | None) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        if status == _METHOD_NOT_ALLOWED:
            # Starlette names a route with this path, although that route lacks the method.
            route = UNMATCHED
        state = found_state(scope.get("state", {}))
        if state is not None:
            state.get(Metrics).http.observe_request(scope["method"], route, status, seconds)
        log = _log.debug if path_below_prefix(scope) in _QUIET else _log.info
        log(
            "request_answered",
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            seconds=round(seconds, 4),
            **self._header_fields(scope),
            **({"run_id": run_id} if run_id is not None else {}),
        )

    def _header_fields(self, scope: Scope) -> dict[str, dict[str, str]]:
        rules = self._logged_headers
        return {"headers": rules.chosen(scope["headers"])} if rules is not None else {}


def _run_of(location: str | None) -> str | None:
    """The id of the run in a ``Content-Location``."""
    found = _RUN_PATH.search(location) if location is not None else None
    return found[1] if found is not None else None
