"""Pure ASGI middleware: a request id for all log lines, one access log line, HTTP metrics."""

import asyncio
import re
from contextlib import ExitStack

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.edge.access_log import QUIET, AccessLog
from headrace.edge.exchange import Exchange
from headrace.edge.prefix import path_below_prefix
from headrace.edge.refusals import error_response
from headrace.edge.request_traces import begin_trace, end_trace
from headrace.edge.security_headers import SecurityHeaders
from headrace.edge.state import found_state
from headrace.edge.streaming import accept_bodies, drop_handed, send_handed
from headrace.errors import RequestError
from headrace.graphs.http_entry import HeaderRules
from headrace.ids import new_request_id
from headrace.shares import Gate, Places
from headrace.unavailable_errors import Draining, TooManyPublicRequests

_ID_HEADER = b"x-request-id"
#: A request id of the caller is used if it looks like this; else the middleware makes one.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

#: Requests to these need no key, as a rule. The process works on a few of them at once, and the
#: others wait: a flood of them must not delay requests with a key.
_PUBLIC = (QUIET | {"/health", "/info", "/docs", "/openapi.json"}) - {"/metrics"}
_PUBLIC_AT_ONCE = 4
_PUBLIC_SECONDS = 15.0


class Middleware:
    """Wraps a whole app. Without headrace's lifespan it works, but records no metrics.

    :param plain_inside: no middleware between this one and the endpoints changes bodies. Then this
        one frees the framework's objects first, and sends the bodies of streams itself.
    :param logged_headers: request headers for the access log; default: none.
    :param hsts_seconds: as :class:`SecurityHeaders`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        plain_inside: bool = False,
        logged_headers: HeaderRules | None = None,
        hsts_seconds: int = 0,
    ) -> None:
        self.app = app
        self._plain_inside = plain_inside
        self._logged_headers = logged_headers
        self._security = SecurityHeaders(hsts_seconds)
        self._public = Gate(Places(_PUBLIC_AT_ONCE), timeout_seconds=_PUBLIC_SECONDS)
        #: For requests without headrace's lifespan.
        self._log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _given_id(scope) or new_request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        ours = found_state(state)
        log = (ours.find(AccessLog) if ours is not None else None) or self._log
        path = path_below_prefix(scope)
        quiet = path in QUIET
        trace = begin_trace(scope, ours, quiet=quiet or path == "/health")
        exchange = log.begin()
        exchange.put_into(state)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                others, location = _headers_of(message)
                more = self._security.missing(map(_name_of, others)) if exchange.of_api else ()
                message["headers"] = [*others, *more, (_ID_HEADER, request_id.encode())]
                exchange.begin_answer(message["status"], location)
                await send(message)
            else:
                await send(message)
                exchange.count_sent(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, **trace.log_fields)
        try:
            await self._answer(path, scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The server cancels requests when it must end. Without an answer it would send a 500.
            if exchange.first_byte_seconds is None:
                await error_response(Draining())(scope, receive, send_with_id)
            else:
                exchange.note_cut("drain")
            raise
        except BaseException:
            _note_fault(exchange)
            raise
        finally:
            end_trace(scope, trace, exchange.status)
            log.end(
                scope,
                exchange,
                self._logged_headers,
                quiet=quiet,
                trace_id=trace.trace_id,
            )
            structlog.contextvars.unbind_contextvars("request_id", *trace.log_fields)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path in _PUBLIC:
            await self._answer_public(scope, receive, send)
        elif self._plain_inside:
            handed = accept_bodies(scope)
            try:
                await self.app(scope, receive, send)
                await send_handed(handed, scope, receive, send)
            finally:
                drop_handed(handed)
        else:
            await self.app(scope, receive, send)

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


def _given_id(scope: Scope) -> str | None:
    """The id that the caller has given the request, if it is plain."""
    for name, value in scope["headers"]:
        if name == _ID_HEADER:
            given: str = value.decode("latin-1")
            return given if _PLAIN_ID.fullmatch(given) else None
    return None


def _name_of(pair: tuple[bytes, bytes]) -> bytes:
    return pair[0].lower()


def _headers_of(answer: Message) -> tuple[list[tuple[bytes, bytes]], str | None]:
    """The headers of an answer without its id, and its ``Content-Location``."""
    others = [pair for pair in answer.get("headers", ()) if pair[0].lower() != _ID_HEADER]
    for name, value in others:
        if name.lower() == b"content-location":
            return others, value.decode("latin-1")
    return others, None


def _note_fault(exchange: Exchange) -> None:
    """The app has failed without a whole answer."""
    exchange.note_cut("fault")
    if exchange.first_byte_seconds is None:
        exchange.status = RequestError.status
        exchange.note_code(RequestError.code)
