"""A request and its answer: what the access log and the metrics tell about them.

The middleware puts an exchange into the state of each request. The parts inside note what only they
know: the code of a refusal, the name of the key, why a stream was cut.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Literal, cast

from starlette.types import Message

from headrace.events.reader import CutReason
from headrace.observability.http_metrics import HttpMetrics

#: The key in a request's state.
_EXCHANGE = "headrace_exchange"
#: The key of an answer that the server has sent before the app had the request.
_REFUSED = "headrace_refused"
_NO_ANSWER = 500
_METHOD_NOT_ALLOWED = 405


class Exchange:
    """One request and its answer. Seconds count from the request's first byte.

    :param http: counts the streams that are open; None without headrace's lifespan.
    """

    __slots__ = (
        "_http",
        "_streams",
        "body_bytes",
        "caller",
        "code",
        "complete",
        "cut",
        "first_byte_seconds",
        "location",
        "of_api",
        "started",
        "status",
    )

    def __init__(self, http: HttpMetrics | None = None) -> None:
        self.started = perf_counter()
        self.status = _NO_ANSWER
        #: The stable code of a refusal of headrace; empty for all other answers.
        self.code = ""
        #: The name of the caller's key, see :class:`headrace.auth.api_keys.ApiKeys`.
        self.caller = ""
        self.first_byte_seconds: float | None = None
        self.body_bytes = 0
        #: The whole body is sent.
        self.complete = False
        #: Why the answer ended without its proper end; empty if it did not.
        self.cut: CutReason | Literal[""] = ""
        #: Whether the API has the request, not an app of the user that is served with it.
        self.of_api = False
        #: The ``Content-Location`` of the answer.
        self.location: str | None = None
        self._http = http
        self._streams = False

    def put_into(self, state: dict[str, Any]) -> None:
        """Let the parts inside find it: see :func:`exchange_of`."""
        state[_EXCHANGE] = self
        if (refused := state.pop(_REFUSED, None)) is not None:
            self.refuse(*refused)

    def refuse(self, status: int, code: str) -> None:
        """The server itself has answered, before the app did."""
        self.status, self.code = status, code
        self.first_byte_seconds = perf_counter() - self.started
        self.complete = True

    def begin_answer(self, status: int, location: str | None) -> None:
        """The head of the answer is sent now."""
        if self.complete:
            return
        self.status = status
        self.location = location
        self.first_byte_seconds = perf_counter() - self.started

    def count_sent(self, message: Message) -> None:
        """A part of the body is sent."""
        if self.complete:
            return
        self.body_bytes += len(message.get("body", b""))
        if not message.get("more_body", False):
            self.complete = True

    def note_code(self, code: str) -> None:
        """A refusal with this code is sent now."""
        if not self.complete:
            self.code = code

    def note_cut(self, reason: CutReason) -> None:
        """The answer ends without its proper end. The first reason stands."""
        if not self.complete and not self.cut:
            self.cut = reason

    def finish(self) -> None:
        """The answer has its proper end, although its client has left."""
        self.complete = True

    def begin_stream(self) -> None:
        """The answer is a stream, or a wait."""
        if self._http is not None and not self._streams:
            self._streams = True
            self._http.streams_open += 1

    def end(self) -> None:
        """Nothing more is sent."""
        if self._streams and self._http is not None:
            self._streams = False
            self._http.streams_open -= 1
        if self.first_byte_seconds is not None and not self.complete:
            # Nothing failed here: a server stops an app's stream when its client leaves.
            self.note_cut("client_left")


def exchange_of(scope: Mapping[str, Any]) -> Exchange | None:
    """The exchange of a request; None where headrace's middleware is not around the app."""
    return cast("Exchange | None", scope.get("state", {}).get(_EXCHANGE))


def route_of(scope: Mapping[str, Any], status: int) -> str | None:
    """The template of the route that has answered; None if no route has."""
    if status == _METHOD_NOT_ALLOWED:
        # Starlette names a route with this path, although that route lacks the method.
        return None
    path: str | None = getattr(scope.get("route"), "path", None)
    return path


def refuse_beforehand(scope: Mapping[str, Any], status: int, code: str) -> None:
    """The server has answered a request that the app has not begun: tell its exchange."""
    scope["state"][_REFUSED] = (status, code)


def is_unclaimed(scope: Mapping[str, Any]) -> bool:
    """Whether no exchange has taken the refusal over: the app has no middleware of headrace."""
    return scope["state"].pop(_REFUSED, None) is not None
