"""How endpoints reach the objects that the lifespan built."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from headrace.errors import RequestError
from headrace.graphs.http_entry import HeaderRules, HttpEntry

T = TypeVar("T")


class NotStarted(RequestError):
    """The app runs without headrace's lifespan; use FastAPI(lifespan=headrace.lifespan(...))."""

    code = "not_started"


class State:
    """The objects of a process, one of each class. The lifespan yields them under ``headrace``."""

    def __init__(self, *objects: object) -> None:
        self._by_class = {type(one): one for one in objects}

    def find(self, kind: type[T]) -> T | None:
        """The object of exactly this class, or None."""
        return cast("T | None", self._by_class.get(kind))

    def get(self, kind: type[T]) -> T:
        """The object of exactly this class.

        :raises LookupError: the process has none.
        """
        found = self.find(kind)
        if found is None:
            raise LookupError(f"this process has no {kind.__name__}")
        return found


def provided(kind: type[T]) -> Any:
    """A dependency for endpoints: the process's object of this class.

    ``Runs = Annotated[RunService, provided(RunService)]``
    """

    async def find(request: Request) -> T:
        return state_of(request).get(kind)

    return Depends(find)


def state_of(source: HTTPConnection | Mapping[str, Any]) -> State:
    """The state of a request or WebSocket, or of what the lifespan yielded.

    :raises NotStarted: the app runs without headrace's lifespan.
    """
    state = found_state(source)
    if state is None:
        raise NotStarted
    return state


def found_state(source: HTTPConnection | Mapping[str, Any]) -> State | None:
    """As :func:`state_of`, but None where there is no state."""
    # Requests are mappings too, so that to ask whether it is one takes long.
    if type(source) is not dict and isinstance(source, HTTPConnection):
        source = source.scope.get("state", {})
    return cast("State | None", source.get("headrace"))


def request_id_of(request: Request) -> str:
    """The id that the middleware has given this request; empty without the middleware."""
    return str(getattr(request.state, "request_id", ""))


def configurable_headers(request: HTTPConnection) -> dict[str, str]:
    """The headers that the request passes on to its run.

    ``http.configurable_headers`` of the manifest names them; by default there are none.
    """
    rules: HeaderRules | None = state_of(request).get(HttpEntry).configurable_headers
    return rules.chosen(request.headers.raw) if rules is not None else {}
