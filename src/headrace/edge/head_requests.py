"""HEAD: what GET answers, without its body."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope, Send

_MARK = "headrace_head"


@contextmanager
def as_get(scope: Scope) -> Iterator[Scope]:
    """A scope with which the routes answer HEAD as they answer GET.

    The given scope stays a HEAD: the server reads it while the answer is sent, and would miss the
    body of a GET. After the answer it has what the routes have added, as the route itself.
    """
    inner: Scope = {**scope, "method": "GET", _MARK: True}
    try:
        yield inner
    finally:
        scope.update({**inner, "method": "HEAD"})


def is_head(scope: Scope) -> bool:
    """Whether the client wants no body, though the scope may say GET."""
    return scope.get("method") == "HEAD" or _MARK in scope


def without_body(send: Send) -> Send:
    """Send the start of an answer, and of its body nothing."""

    async def send_start(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_start


def headers_alone(
    request: Request, *, media_type: str, headers: Mapping[str, str]
) -> Response | None:
    """The answer to HEAD where GET would begin to stream; None where the request is no HEAD."""
    if not is_head(request.scope):
        return None
    response = Response(headers=dict(headers), media_type=media_type)
    # How long a stream gets is not known.
    del response.headers["content-length"]
    return response
