"""Answers to requests that no route matches, and to errors outside of headrace's own routes."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from headrace.auth.handlers import REQUEST
from headrace.auth.identity import Identity
from headrace.edge.head_requests import is_head
from headrace.edge.prefix import path_below_prefix
from headrace.edge.refusals import RefusalResponse, error_response, short_detail
from headrace.edge.requests import JSONRequest
from headrace.edge.routing import validation_message
from headrace.edge.state import found_state
from headrace.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RequestError,
    TooManyRequests,
    Unauthenticated,
)
from headrace.observability.masking import mask_text
from headrace.openai_door.errors import error_body
from headrace.server.unserved_routes import closed_door, unserved_route
from headrace.unavailable_errors import Unavailable

#: The stable code of a status that Starlette, or an app of the user, raises.
_GENERAL = {
    kind.status: kind.code
    for kind in (
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        PayloadTooLarge,
        InvalidRequest,
        TooManyRequests,
        Unavailable,
    )
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Clients of OpenAI's API read errors below it in their own form.
_OPENAI = "/v1/"
#: An answer repeats at most this many characters of what the caller sent.
_SHOWN = 200


async def _http_error(
    request: Request, error: Exception, *, public: frozenset[str] | None
) -> Response:
    assert isinstance(error, HTTPException)
    status, detail, headers = error.status_code, str(error.detail), dict(error.headers or {})
    code = _code_of(status)
    if status == 404 and (redirect := await _without_slash(request, public)) is not None:
        return redirect
    if status in (404, 405):
        path = path_below_prefix(request.scope)
        method = "HEAD" if is_head(request.scope) else request.method
        if (sentence := unserved_route(path)) is not None:
            status, detail, code, headers = 501, sentence, "not_implemented", {}
        elif (sentence := closed_door(path, getattr(request.app, "doors", ()))) is not None:
            status, detail, code, headers = 404, sentence, "door_closed", {}
        elif status == 405:
            allowed = _allowed(request.app, request.scope)
            headers = {"Allow": ", ".join(allowed)}
            detail = f"{method} {_shown(path)} is not possible; this path takes {_or(allowed)}."
        else:
            detail = _nothing_here(request.app, request.scope, method, path)
    body = None
    if path_below_prefix(request.scope).startswith(_OPENAI) and _has_door(request, "openai"):
        body = error_body(short_detail(detail), code, status)
    return RefusalResponse(detail, code, status=status, headers=headers, body=body)


def _has_door(request: Request, door: str) -> bool:
    return door in getattr(request.app, "doors", ())


def _code_of(status: int) -> str:
    """The general code for a status. The error's own words may have come from the caller."""
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return "method_not_allowed"
    if status in _GENERAL:
        return _GENERAL[status]
    return RequestError.code if status >= HTTPStatus.INTERNAL_SERVER_ERROR else BadRequest.code


async def _invalid(request: Request, error: Exception) -> Response:
    """The answer of a route that is not a :class:`HeadraceRoute`, such as a probe."""
    assert isinstance(error, RequestValidationError)
    message = validation_message(error, request.headers.get("content-type"))
    return error_response(InvalidRequest(message))


async def _fault(_request: Request, _error: Exception) -> Response:
    """The answer after an error outside of all routes. The server logs the error."""
    return error_response(RequestError("Internal server error; the log has the cause."))


async def _without_slash(request: Request, public: frozenset[str] | None) -> Response | None:
    """A redirect to this path without its last slash, on this server. It needs a key if that path
    does.
    """
    scope, path = request.scope, path_below_prefix(request.scope)
    plain = path.rstrip("/")
    if plain == path or not plain or path.startswith("//"):
        return None
    method = "GET" if is_head(scope) else request.method
    there = {**scope, "path": plain, "method": method}
    for route in request.app.router.routes:
        if route.matches(there)[0] is not Match.FULL:
            continue
        state = found_state(request)
        if state is not None and public is not None and plain not in public:
            try:
                scope[REQUEST] = JSONRequest(scope, request.receive)
                await state.get(Identity).principal(scope)
            except RequestError as error:
                return error_response(error)
        query = scope.get("query_string", b"").decode("latin-1")
        before = str(scope.get("root_path", "")).rstrip("/")
        # A path without a host: anybody can put any host into a request.
        location = quote(before + plain, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        return Response(status_code=307, headers={"Location": location})
    return None


def _nothing_here(app: FastAPI, scope: Scope, method: str, path: str) -> str:
    detail = f"Not Found: there is no {_shown(path)}."
    plain = "/" + "/".join(part for part in path.split("/") if part)
    if plain != path and (allowed := _allowed(app, {**scope, "path": plain})):
        shown = method if method in allowed else allowed[0]
        return f"{detail} Without the extra slash it is there: {shown} {_shown(plain)}."
    hint = " GET /openapi.json lists what there is." if _has_docs(app) else ""
    return f"{detail}{hint}"


def _shown(path: str) -> str:
    """The path as answers show it. A client may have put a secret into it by mistake."""
    return mask_text(path)[:_SHOWN]


def _has_docs(app: FastAPI) -> bool:
    return bool(_allowed(app, {"type": "http", "path": "/openapi.json", "headers": []}))


def _allowed(app: FastAPI, scope: Scope) -> list[str]:
    """The methods that a route accepts at the scope's path."""
    found = [
        method
        for method in _METHODS
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            for route in app.router.routes
        )
    ]
    return [*found, "HEAD"] if "GET" in found else found


def _or(words: Sequence[str]) -> str:
    return " or ".join(words) or "no method"


def add_error_handlers(app: FastAPI, *, public: frozenset[str] | None = None) -> None:
    """
    :param public: paths that need no key; None: no path needs one.
    """
    app.add_exception_handler(HTTPException, partial(_http_error, public=public))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)
