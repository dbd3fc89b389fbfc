"""What handlers of ``langgraph.json`` raise, as answers to requests."""

from collections.abc import Mapping
from typing import Any

import structlog

from headrace.errors import Forbidden, RequestError
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.auth")

_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "invalid_request",
    429: "too_many_requests",
}
#: Headers that tell of the body of an answer: headrace writes it.
_OWN = frozenset({"content-length", "content-type", "transfer-encoding", "connection"})


class RefusedByHandler(RequestError):
    """A handler of langgraph.json refuses the request."""

    status = 403
    code = "refused_by_handler"

    def __init__(self, status: int, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.status = status
        self.code = _CODES.get(status, type(self).code)
        self.headers = headers


class DeniedByHandler(Forbidden):
    """Forbidden"""


class HandlerTooSlow(Unavailable):
    """A handler of langgraph.json's auth took too long; try again."""

    code = "auth_handler_too_slow"


class HandlerFailed(RequestError):
    """A handler of langgraph.json's auth failed; the log has the cause."""

    code = "auth_handler_failed"


def wrong_change(handler: str, field: str, cause: str) -> HandlerFailed:
    """The error for what a handler has left in its value.

    :param handler: its resource and action.
    """
    _log.error("auth_handler_failed", handler=handler, field=field, cause=cause)
    return HandlerFailed(
        f"A handler of langgraph.json's auth has left a wrong {field} for {handler}; the log has"
        " the cause."
    )


def refusal_of(error: BaseException, *, handler: str, unfounded: int) -> RequestError:
    """The answer for what a handler has raised. What it did not mean as an answer is logged.

    :param handler: its name for the log.
    :param unfounded: the status of an ``assert`` that does not hold.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, AssertionError):
        return RefusedByHandler(unfounded, str(error) or "Forbidden", {})
    # langgraph-sdk's HTTPException, or one of Starlette and FastAPI.
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if isinstance(status, int) and 400 <= status <= 599:
        return RefusedByHandler(status, _text(detail), _headers(getattr(error, "headers", None)))
    _log.error("auth_handler_failed", handler=handler, exc_info=error)
    return HandlerFailed()


def _text(detail: Any) -> str:
    return detail if isinstance(detail, str) and detail else str(detail or "Refused")


def _headers(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        return {}
    return {
        str(name): str(value)
        for name, value in given.items()
        if str(name).lower() not in _OWN
        and str(name).isascii()
        and str(name).replace("-", "").isalnum()
        and str(value).isprintable()
        and str(value).isascii()
    }
