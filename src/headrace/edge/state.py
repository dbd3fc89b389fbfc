"""How endpoints reach what the lifespan built."""

from typing import Any

from fastapi import Request

from headrace.errors import RequestError


class NotStarted(RequestError):
    """The app runs without headrace's lifespan; use FastAPI(lifespan=headrace.lifespan(...))."""

    code = "not_started"


def state_of(request: Request) -> Any:
    """The lifespan's state object; each room casts the service it takes from it.

    :raises NotStarted: when the app runs without headrace's lifespan.
    """
    state = getattr(request.state, "headrace", None)
    if state is None:
        raise NotStarted
    return state


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request; empty where the middleware is not used."""
    return str(getattr(request.state, "request_id", ""))
