"""How endpoints reach what the lifespan built."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from headrace.errors import RequestError


class NotStarted(RequestError):
    """The app runs without headrace's lifespan; use FastAPI(lifespan=headrace.lifespan(...))."""

    code = "not_started"


def state_of(request: Request) -> Any:
    """The lifespan's state object; each room casts the service it takes from it.

    :raises NotStarted: when the app runs without headrace's lifespan.
    """
    return started(request)


def started(source: HTTPConnection | Mapping[str, Any]) -> Any:
    """The state of a request or WebSocket, or of what the lifespan yielded.

    :raises NotStarted: it is not there.
    """
    if isinstance(source, HTTPConnection):
        state = getattr(source.state, "headrace", None)
    else:
        state = source.get("headrace")
    if state is None:
        raise NotStarted
    return state


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request; empty where the middleware is not used."""
    return str(getattr(request.state, "request_id", ""))
