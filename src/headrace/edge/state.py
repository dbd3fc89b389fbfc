"""Access of endpoints to the objects of the lifespan, and to the values of one request."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from headrace.errors import RequestError
from headrace.graphs.http_entry import HeaderRules


class NotStarted(RequestError):
    """The app runs without headrace's lifespan; use FastAPI(lifespan=headrace.lifespan(...))."""

    code = "not_started"


def state_of(request: Request) -> Any:
    """The state object of the lifespan. Each room casts the service that it takes from it.

    :raises NotStarted: the app runs without headrace's lifespan.
    """
    return started(request)


def started(source: HTTPConnection | Mapping[str, Any]) -> Any:
    """The state object in a request, a WebSocket, or the mapping that the lifespan yielded.

    :raises NotStarted: the app runs without headrace's lifespan.
    """
    if isinstance(source, HTTPConnection):
        state = getattr(source.state, "headrace", None)
    else:
        state = source.get("headrace")
    if state is None:
        raise NotStarted
    return state


def request_id_of(request: Request) -> str:
    """The id that the middleware has given this request; empty without the middleware."""
    return str(getattr(request.state, "request_id", ""))


def configurable_headers(request: Request) -> dict[str, str]:
    """The headers that the request passes on to its run.

    ``http.configurable_headers`` of the manifest names them; by default there are none.
    """
    rules: HeaderRules | None = state_of(request).http.configurable_headers
    return rules.chosen(request.headers.raw) if rules is not None else {}
