"""The handlers of ``auth`` in ``langgraph.json``: who calls, and what each caller may do.

The registry of handlers is that of ``langgraph_sdk.Auth``. The most specific handler of an action
decides: ``on.threads.create``, ``on.threads``, ``on(actions="create")``, ``on``. Without a handler
an action is allowed. What fails in a handler refuses the request.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import structlog
from langgraph_sdk import Auth

from headrace.auth.filters import Compiled, WrongFilter, compiled
from headrace.auth.handler_cache import HandlerCache
from headrace.auth.handler_changes import Body, ShownBody, ShownValue, WrongChange
from headrace.auth.handler_errors import (
    DeniedByHandler,
    HandlerFailed,
    HandlerTooSlow,
    RefusedByHandler,
    refusal_of,
    wrong_change,
)
from headrace.auth.principal import Principal
from headrace.auth.user import WrongUser, user_fields, user_of
from headrace.containment import is_cancellation
from headrace.thread_pool import in_a_thread

_log = structlog.stdlib.get_logger("headrace.auth")

Left = TypeVar("Left")

_RESOURCE_ACTIONS = ("create", "read", "update", "delete", "search")
#: Every action that a handler may be asked about, by resource.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "threads": (*_RESOURCE_ACTIONS, "create_run"),
    "assistants": _RESOURCE_ACTIONS,
    "crons": _RESOURCE_ACTIONS,
    "store": ("put", "get", "search", "delete", "list_namespaces"),
}
#: What ``authenticate`` may ask for, by the names of its parameters.
PARAMETERS = (
    "request",
    "path",
    "method",
    "path_params",
    "query_params",
    "headers",
    "authorization",
    "body",
)
#: The key of a scope under which the request is, for ``authenticate``.
REQUEST = "headrace_request"
#: Hexadecimal digits of the name of a caller, for shares and logs.
_NAME_LENGTH = 16


class SentRequest(Protocol):
    """A request whose body can be read: Starlette's, for example."""

    async def json(self) -> Any:
        """The value of its body."""

    async def body(self) -> bytes:
        """Its body."""


class Handlers:
    """The handlers of one ``Auth``; without one, everything is allowed.

    :param auth: None: ``langgraph.json`` has no ``auth``.
    :param cache: remembers users; None: ``authenticate`` is asked at each request.
    :param seconds: a handler may take this long.
    :param count: counts the calls of handlers, by kind and outcome.
    """

    def __init__(
        self,
        auth: Auth | None = None,
        *,
        cache: HandlerCache | None = None,
        seconds: float = 30.0,
        count: Callable[[str, str], None] = lambda kind, outcome: None,
    ) -> None:
        self._authenticate = None if auth is None else auth._authenticate_handler
        self._wanted = wanted_parameters(self._authenticate) if self._authenticate else ()
        self._on = {} if auth is None else _by_action(auth)
        self._cache = cache
        self._seconds = seconds
        self.count = count

    @property
    def authenticates(self) -> bool:
        """Whether a handler tells who calls."""
        return self._authenticate is not None

    @property
    def wants_body(self) -> bool:
        """Whether the handler may read the body to tell who calls."""
        return "body" in self._wanted or "request" in self._wanted

    @property
    def unhandled(self) -> list[str]:
        """The actions without a handler, which every caller may do."""
        return [
            f"{resource}.{action}"
            for resource, actions in ACTIONS.items()
            for action in actions
            if (resource, action) not in self._on
        ]

    def decides_on(self, resource: str, action: str) -> bool:
        """Whether a handler is asked about this action."""
        return (resource, action) in self._on

    async def authenticate(self, scope: Mapping[str, Any]) -> Principal:
        """Who sends a request, by the handler ``authenticate``.

        The scope has the request itself under :data:`REQUEST`, for handlers that ask for it or its
        body. The body of a WebSocket is None.

        :raises RefusedByHandler: the handler does not know the caller.
        :raises HandlerTooSlow, HandlerFailed: nobody knows who calls.
        """
        assert self._authenticate is not None
        key = self._cache.key_of(scope["headers"]) if self._cache is not None else None
        if self._cache is not None and (known := self._cache.get(key)) is not None:
            self.count("authenticate", "remembered")
            return known
        given = await self._given(scope)
        result = await self._called("authenticate", self._authenticate, given, unfounded=401)
        try:
            principal = _principal(user_fields(result))
        except WrongUser as error:
            _log.error("auth_handler_failed", handler="authenticate", cause=str(error))
            self.count("authenticate", "failed")
            raise HandlerFailed from None
        except Exception as error:
            # The fields of an object may be properties that raise.
            self.count("authenticate", "failed")
            raise refusal_of(error, handler="authenticate", unfounded=401) from error
        self.count("authenticate", "allowed")
        if self._cache is not None:
            self._cache.put(key, principal)
        return principal

    async def authorize(
        self,
        principal: Principal,
        resource: str,
        action: str,
        value: dict[str, Any],
        *,
        in_place: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Principal:
        """The caller as it may do this: with the filter of the handler, which replaces another one.

        :param in_place: the parts of ``value`` that the handler may change, but not replace.
        :param check: raises :class:`WrongChange` for what the handler has left there.
        :raises DeniedByHandler, RefusedByHandler: it may not.
        :raises HandlerTooSlow, HandlerFailed: nobody knows whether it may.
        """
        if not self.decides_on(resource, action):
            return principal.unfiltered
        before = ShownValue(value, in_place=in_place)

        def left(allowed: Principal) -> Principal:
            before.refuse_others()
            check()
            return allowed

        return (await self._decided(principal, resource, action, value, left))[0]

    async def authorize_body(
        self,
        principal: Principal,
        resource: str,
        action: str,
        body: Body,
        names: Mapping[str, str],
        value: Mapping[str, Any],
        *,
        unheeded: Collection[str] = (),
    ) -> tuple[Principal, Body]:
        """The caller as it may do this, and the body as the handler has left it.

        A new row gets what the handler's filter wants, so that its caller sees it.

        :param names: fields of the body that the handler may change, by the names in its value.
        :param value: what else it sees. A dict it may change in place.
        :param unheeded: parts that it may change without effect.
        :raises RequestError: as :meth:`authorize`.
        """
        if not self.decides_on(resource, action):
            return principal.unfiltered, body
        asked = ShownBody(body, names, value, unheeded)

        def left(allowed: Principal) -> Body:
            return asked.made(allowed) if action == "create" else asked.left()

        return await self._decided(principal, resource, action, asked.value, left)

    async def _decided(
        self,
        principal: Principal,
        resource: str,
        action: str,
        value: dict[str, Any],
        left: Callable[[Principal], Left],
    ) -> tuple[Principal, Left]:
        """The caller, and what the handler has left by ``left``, which may raise WrongChange."""
        handler, name = self._on[resource, action], f"{resource}.{action}"
        context = Auth.types.AuthContext(
            permissions=list(principal.permissions),
            user=user_of(principal),
            resource=resource,  # type: ignore[arg-type] # one of ACTIONS
            action=action,  # type: ignore[arg-type] # one of ACTIONS
        )
        result = await self._called(name, handler, {"ctx": context, "value": value}, unfounded=403)
        if result is False:
            self.count("on", "denied")
            raise DeniedByHandler
        wanted = self._filter(name, resource, result)
        allowed = principal.unfiltered
        if wanted is not None:
            allowed = replace(principal, filter=wanted.filter, equal=wanted.equal)
        try:
            found = left(allowed)
        except WrongChange as error:
            self.count("on", "failed")
            raise wrong_change(name, error.field, error.cause) from None
        self.count("on", "allowed")
        return allowed, found

    async def reader(self, principal: Principal, thread_id: str) -> Principal:
        """The caller as it may read a thread.

        :raises RequestError: it may not.
        """
        return await self.authorize(principal, "threads", "read", {"thread_id": thread_id})

    def _filter(self, name: str, resource: str, result: Any) -> Compiled | None:
        if result is None or result is True:
            return None
        try:
            if not isinstance(result, Mapping):
                raise WrongFilter(f"it has returned {type(result).__name__}, no filter")
            wanted = compiled(result)
        except WrongFilter as error:
            _log.error("auth_handler_failed", handler=name, cause=str(error))
            self.count("on", "failed")
            raise HandlerFailed from None
        if wanted.filter and resource == "store":
            # Allowed, everybody would see the items of all.
            _log.warning("auth_filter_refused", handler=name, remedy=_STORE_REMEDY)
            self.count("on", "denied")
            raise DeniedByHandler(f"A filter cannot limit the store: {_STORE_REMEDY}.")
        return wanted

    async def _called(
        self,
        name: str,
        handler: Callable[..., Any],
        given: Mapping[str, Any],
        *,
        unfounded: int,
    ) -> Any:
        kind = "authenticate" if name == "authenticate" else "on"
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                if inspect.iscoroutinefunction(handler):
                    return await handler(**given)
                result = await in_a_thread(partial(handler, **given))
                # A callable object, or a function that returns a coroutine.
                return await result if isinstance(result, Awaitable) else result
        except BaseException as error:
            if is_cancellation(error):
                raise
            if isinstance(error, TimeoutError) and limit.expired():
                self.count(kind, "failed")
                _log.warning("auth_handler_too_slow", handler=name, seconds=self._seconds)
                raise HandlerTooSlow from None
            refusal = refusal_of(error, handler=name, unfounded=unfounded)
            self.count(kind, "denied" if isinstance(refusal, RefusedByHandler) else "failed")
            raise refusal from error

    async def _given(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of ``authenticate``."""
        request: SentRequest | None = scope.get(REQUEST)
        found: dict[str, Any] = {}
        for name in self._wanted:
            if name == "request":
                found[name] = request
            elif name == "body":
                found[name] = await _body(request) if scope["type"] == "http" else None
            else:
                found[name] = _PARTS[name](scope)
        return found


_STORE_REMEDY = "items have no metadata, so let the handler rewrite value['namespace'] instead"


def _principal(fields: Mapping[str, Any]) -> Principal:
    identity = fields["identity"]
    return Principal(
        identity=identity,
        permissions=tuple(fields["permissions"]),
        user=fields,
        caller=sha256(identity.encode()).hexdigest()[:_NAME_LENGTH],
    )


def wanted_parameters(handler: Callable[..., Any]) -> tuple[str, ...]:
    """The names among :data:`PARAMETERS` that the handler asks for."""
    kinds = inspect.signature(handler).parameters
    return tuple(name for name in PARAMETERS if name in kinds)


def unknown_parameters(handler: Callable[..., Any]) -> list[str]:
    """The parameters of ``authenticate`` that nobody can fill."""
    return [
        name
        for name, one in inspect.signature(handler).parameters.items()
        if one.kind is inspect.Parameter.POSITIONAL_ONLY
        or (
            name not in PARAMETERS
            and one.default is inspect.Parameter.empty
            and one.kind
            in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        )
    ]


def unknown_actions(auth: Auth) -> list[str]:
    """What handlers are registered for, and nothing ever asks about."""
    return [
        f"{resource}.{action}"
        for resource, action in auth._handlers
        if resource not in ("*", *ACTIONS)
        or (resource != "*" and action not in ("*", *ACTIONS[resource]))
        or (resource == "*" and not any(action in ("*", *known) for known in ACTIONS.values()))
    ]


def _by_action(auth: Auth) -> dict[tuple[str, str], Callable[..., Any]]:
    """The handler of each action: the most specific one."""
    found: dict[tuple[str, str], Callable[..., Any]] = {}
    for resource, actions in ACTIONS.items():
        for action in actions:
            places = ((resource, action), (resource, "*"), ("*", action), ("*", "*"))
            several = [auth._handlers[place] for place in places if place in auth._handlers]
            if handlers := next((some for some in several if some), auth._global_handlers):
                found[resource, action] = handlers[-1]
    return found


async def _body(request: SentRequest | None) -> Any:
    """The value of the body; None: there is none."""
    if request is None or not await request.body():
        return None
    return await request.json()


def _path(scope: Mapping[str, Any]) -> str:
    """The path as the API has it, without the prefix that an app or a proxy puts before it."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(prefix) :] or "/" if prefix and path.startswith(f"{prefix}/") else path


def _authorization(scope: Mapping[str, Any]) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == b"authorization":
            return str(value.decode("latin-1"))
    return None


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "path": _path,
    "method": lambda scope: scope.get("method", "GET"),
    "path_params": lambda scope: dict(scope.get("path_params", {})),
    "query_params": lambda scope: dict(
        parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    ),
    "headers": lambda scope: dict(scope["headers"]),
    "authorization": _authorization,
}
