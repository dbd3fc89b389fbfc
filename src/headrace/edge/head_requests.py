"""HEAD requests: the answer of GET without the body."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope, Send

_MARK = "headrace_head"


@contextmanager
def as_get(scope: Scope) -> Iterator[Scope]:
    """A scope with the method GET, so that the routes answer a HEAD request like GET.

    The given scope keeps the method HEAD: the server reads it while it sends the answer, and would
    expect a body for GET. Afterwards the given scope also has what the routes have added.
    """
    inner: Scope = {**scope, "method": "GET", _MARK: True}
    try:
        yield inner
    finally:
        scope.update({**inner, "method": "HEAD"})


def is_head(scope: Scope) -> bool:
    """Whether the client has sent HEAD, though the scope may say GET."""
    return scope.get("method") == "HEAD" or _MARK in scope


def without_body(send: Send) -> Send:
    """A ``send`` that drops the body of an answer."""

    async def send_start(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_start


def headers_alone(
    request: Request, *, media_type: str, headers: Mapping[str, str]
) -> Response | None:
    """The answer to HEAD where GET would stream; None if the request is not HEAD."""
    if not is_head(request.scope):
        return None
    response = Response(headers=dict(headers), media_type=media_type)
    # The length of a stream is not known.
    del response.headers["content-length"]
    return response
