"""The route classes of all headrace endpoints. Errors become ``{"detail", "code"}``.

:class:`HeadraceRoute` does this, not an exception handler. So endpoints behave alike in the server
and in a user's own FastAPI app, which keeps its exception handlers.
"""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any, ClassVar

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from headrace.admission_errors import ReadOnly
from headrace.auth.handlers import REQUEST
from headrace.auth.identity import Identity
from headrace.auth.store_scope import store_scope
from headrace.checkpoints.scoped_store import use_store_scope
from headrace.containment import contain, is_cancellation
from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.db.repeats import repeated
from headrace.edge.arguments import Plan, plan_for
from headrace.edge.body_memory import BodyMemory
from headrace.edge.departures import lost_of, unless_lost
from headrace.edge.exchange import exchange_of
from headrace.edge.gates import RequestGates
from headrace.edge.prefix import own_path_of, path_with_one_prefix, with_prefixed_locations
from headrace.edge.reading import cancels, only_reads
from headrace.edge.refusals import error_response
from headrace.edge.repetition import may_repeat
from headrace.edge.requests import BodyBounds, JSONRequest
from headrace.edge.state import State, found_state
from headrace.edge.web_pages import WebPages
from headrace.error_text import clipped
from headrace.errors import InvalidRequest, NotFound, RequestError
from headrace.observability.metrics import Metrics
from headrace.settings import Settings
from headrace.shares import current_caller
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted, PoolShareFull

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_log = structlog.stdlib.get_logger("headrace.edge")


#: Probes ask a pod by any name.
_PROBES = frozenset({"/livez", "/readyz", "/startupz", "/ok"})

#: Bounds on the errors of one request in an answer: how many, and bytes of each.
MAX_ERRORS = 20
_MAX_ERROR_BYTES = 500
#: How pydantic begins the sentence of a validator.
_VALUE_ERROR = "Value error, "


def validation_message(error: RequestValidationError, content_type: str | None) -> str:
    """What to change: one part per field, for the first errors."""
    items = error.errors()
    for item in items:
        if (
            item["loc"] == ("body",)
            and item["type"] != "missing"
            and "json" not in (content_type or "")
        ):
            return "Send the body as JSON with the header Content-Type: application/json."
    told = [(item["loc"], item["msg"].removeprefix(_VALUE_ERROR)) for item in items[:MAX_ERRORS]]
    return error_lines(told, len(items))


def error_lines(told: Sequence[tuple[Sequence[Any], str]], found: int) -> str:
    """Errors of a request with their places, shortened.

    :param found: how many errors there are in all.
    """
    lines = []
    for loc, message in told[:MAX_ERRORS]:
        where = ".".join(clipped(str(part), 100) for part in loc if part != "body") or "body"
        lines.append(clipped(f"{where}: {message}", _MAX_ERROR_BYTES))
    if found > MAX_ERRORS:
        lines.append(f"and {found - MAX_ERRORS} more")
    return "; ".join(lines)


def described_by(endpoint: Callable[..., Any]) -> tuple[str, str]:
    """Summary and description of an operation, in Markdown, from the docstring."""
    first, _, rest = inspect.cleandoc(endpoint.__doc__ or "").replace("``", "`").partition("\n\n")
    return " ".join(first.split()).rstrip("."), rest.strip()


class OwnRoute(APIRoute):
    """A route of headrace, also where an app has included it under a prefix."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        #: The path without the prefix of an app.
        self.own_path = own_path_of(endpoint, path)
        super().__init__(path, endpoint, **options)


class HeadraceRoute(OwnRoute):
    """Finds out who calls, parses strictly, renders errors, and logs unexpected ones.

    It puts the prefix of the request before ``Location`` headers.
    """

    #: Whether it answers requests without a key. Such requests have no body.
    public: ClassVar[bool] = False

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        """The first paragraph of the endpoint's docstring is its summary."""
        if not more.get("summary"):
            more["summary"], more["description"] = described_by(endpoint)
        super().__init__(path, endpoint, **more)
        self._repeats = may_repeat(endpoint, self.methods or ())
        self._only_reads = only_reads(self.own_path, self.methods or ())

    def refusal(self, error: RequestError, request: Request) -> Response:
        """The answer for an error."""
        return error_response(error)

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await self._checked(JSONRequest(request.scope, request.receive), inner)

        return handle

    @cached_property
    def plan(self) -> Plan | None:
        """How to call the endpoint without the framework, where nothing has included the route
        with dependencies of its own; None: the framework must call it.
        """
        return plan_for(self)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by the plan.

        :raises StarletteHTTPException: as the framework, whose handlers make an answer of it.
        """
        assert self.plan is not None
        response = await self._checked(JSONRequest(scope, receive), self.plan.answer)
        await response(scope, receive, send)

    async def _checked(
        self,
        request: JSONRequest,
        inner: Callable[[JSONRequest], Coroutine[Any, Any, Response]],
    ) -> Response:
        scope = request.scope
        state = found_state(scope.get("state", {}))
        if state is not None and not self.public:
            settings = state.get(Settings)
            request.max_body_bytes = settings.server.max_body_bytes
            request.bounds = BodyBounds.of(settings.requests)
            request.body_memory = state.get(BodyMemory)
        # Some requests run the user's graphs, factories and handlers.
        contain()
        try:
            if state is not None and not self.public:
                # Before the body is read: a stranger must cost no memory.
                scope[REQUEST] = request
                identity = state.get(Identity)
                principal = await unless_lost(identity.principal(scope), lost_of(scope))
                state.get(WebPages).check(scope)
                caller = principal.caller
                # The task belongs to this request until the answer ends.
                current_caller.set(caller)
                use_store_scope(store_scope(principal))
                request.caller = caller
                if (exchange := exchange_of(scope)) is not None:
                    exchange.caller = caller
                if principal.read_only and (not self._only_reads or cancels(scope)):
                    raise ReadOnly
                gates = state.get(RequestGates)
                gates.admit(caller)
                request.turns = gates.turns
                if self.body_field is None or request.is_read:
                    await request.take_turn()
            elif state is not None and self.own_path not in _PROBES:
                state.get(WebPages).check_host(scope)
            if state is None or self.public:
                with translated_faults():
                    response = await inner(request)
            else:
                response = await self._answered(request, inner, state)
            return with_prefixed_locations(response, scope, self.own_path)
        except RequestError as error:
            return self.refusal(error, request)
        except RequestValidationError as error:
            message = validation_message(error, request.headers.get("content-type"))
            return self.refusal(InvalidRequest(message), request)
        except StarletteHTTPException as error:
            # FastAPI raises this for any error while it reads the body.
            if isinstance(error.__cause__, RequestError):
                return self.refusal(error.__cause__, request)
            raise
        except BaseException as error:
            if is_cancellation(error):
                raise
            _log.exception("request_failed", path=request.url.path, method=request.method)
            fault = RequestError("Internal server error; the log has the cause.")
            return self.refusal(fault, request)
        finally:
            request.release()

    async def _answered(
        self,
        request: JSONRequest,
        inner: Callable[[JSONRequest], Coroutine[Any, Any, Response]],
        state: State,
    ) -> Response:
        """The response of the endpoint. If the request may be done twice, it is repeated while the
        database is away: a connection was cut, or none can be made.

        :raises DatabaseUnavailable: the database has stayed away, or perhaps the request is done.
        """
        repetitions = 0

        async def once() -> Response:
            try:
                with translated_faults():
                    return await inner(request)
            except (PoolShareFull, PoolExhausted) as error:
                pool = state.find(SharedPool)
                if pool is None or pool.fault is None:
                    raise
                # Others hold the connections, because the database does not answer them.
                raise DatabaseUnavailable from error
            except NotFound:
                if repetitions and request.method == "DELETE":
                    # An earlier try has done it, and its answer was lost.
                    return Response(status_code=204)
                raise

        def note() -> None:
            nonlocal repetitions
            repetitions += 1
            if repetitions == 1:
                state.get(Metrics).http.count_repeated_request()
                _log.warning("request_repeated", path=request.url.path, method=request.method)

        seconds = state.get(Settings).database.away_timeout_seconds
        return await repeated(once, seconds=seconds if self._repeats else 0.0, on_repeat=note)


class PublicRoute(HeadraceRoute):
    """A route that answers without a key, for probes and for clients that have none yet."""

    public = True


class LocationRoute(HeadraceRoute):
    """A route that also answers where the prefix stands twice in the path.

    SDKs append a ``Location``, which has the prefix, to their base URL, which has it too.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is Match.NONE and (once := path_with_one_prefix(scope, self.own_path)) is not None:
            match, child_scope = super().matches({**scope, "path": once})
            if match is not Match.NONE:
                child_scope["path"] = once
        return match, child_scope


class Refusal(BaseModel):
    """Why a request was not carried out."""

    detail: str = Field(description="What to change, for people.")
    code: str = Field(description="Stable, for programs.")


#: The error answers in the OpenAPI of every operation, in place of FastAPI's own form of a 422.
_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "Refused: the caller must change something."},
    429: {
        "model": Refusal,
        "description": "This caller has too many requests or runs in progress: try again later.",
    },
    503: {"model": Refusal, "description": "The server cannot take the request now: try again."},
}


#: Read a body without a content type as JSON. FastAPI did so by default before 0.132.
_LENIENT: dict[str, Any] = (
    {"strict_content_type": False}
    if "strict_content_type" in inspect.signature(APIRouter).parameters
    else {}
)


def new_router(
    *,
    tag: str,
    public: bool = False,
    followed: bool = False,
    route_class: type[HeadraceRoute] | None = None,
) -> APIRouter:
    """A router for the endpoints of one room.

    :param public: the endpoints need no key.
    :param followed: ``Location`` headers point to these endpoints.
    :param route_class: the class of the routes, for a door.
    """
    usual = PublicRoute if public else LocationRoute if followed else HeadraceRoute
    return APIRouter(route_class=route_class or usual, tags=[tag], responses=_REFUSALS, **_LENIENT)
