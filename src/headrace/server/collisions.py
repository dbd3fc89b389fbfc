"""Paths that both the user's app and headrace's router have. The router that was included first
answers.

If a route of headrace hides a whole route of the user, the app does not start: otherwise nobody
would notice. If a route of the user hides one of headrace, that may be intended: it is logged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from re import Pattern
from typing import Any, Literal

import structlog
from fastapi import routing
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute, compile_path

from headrace.edge.routing import OwnRoute
from headrace.errors import StartupRefusal

_log = structlog.stdlib.get_logger("headrace.server")

#: Values for a path parameter, the most general first. No route has such a literal in its path.
_SAMPLES = ("zq7x", "7", "7.5", "0199c0de-0000-7000-8000-000000000000", "zq7x/zq7x")

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A route as requests find it: its path has all prefixes."""

    path: str
    #: None: all methods.
    methods: frozenset[str] | None
    ours: bool
    #: It answers everything below its path.
    mount: bool = False
    #: It answers WebSockets, and no requests.
    socket: bool = False

    @property
    def whole_path(self) -> str:
        return f"{self.path.rstrip('/')}/{{path:path}}" if self.mount else self.path


@dataclass(frozen=True, slots=True)
class Collision:
    """A request that two routes could answer. The later route never gets it."""

    first: Place
    second: Place
    #: The path of the second route if all of it is hidden, else an example.
    request: str
    hidden: Literal["all", "some"]


def places_of(routes: Sequence[BaseRoute], before: str = "") -> Iterator[Place]:
    """The routes in the order in which they are tried, those of mounted apps included."""
    for route in _flat(routes):
        original = getattr(route, "original_route", route)
        path = before + (getattr(route, "path", None) or "")
        if isinstance(original, Mount):
            inner = getattr(original, "routes", None) or []
            places = list(places_of(inner, path))
            if not any(place.ours for place in places):
                yield Place(path, None, ours=False, mount=True)
            yield from places
        elif isinstance(original, Route):
            methods = getattr(route, "methods", None)
            chosen = frozenset(methods) if methods else None
            yield Place(path, chosen, ours=isinstance(original, OwnRoute))
        elif isinstance(original, WebSocketRoute):
            yield Place(path, None, ours=_is_headraces(original.endpoint), socket=True)


def collisions_in(places: Sequence[Place], *, by_path: bool = False) -> list[Collision]:
    """Pairs of a headrace route and a user's route where one hides the other.

    :param by_path: the first route with the path gets the request, whatever the method.
    """
    found = []
    for number, first in enumerate(places):
        for second in places[number + 1 :]:
            if first.ours is second.ours or not _of_one_kind(first, second):
                continue
            if by_path or _share_method(first, second):
                hidden = _hidden(first, second)
                if hidden is not None:
                    found.append(hidden)
    return found


def look_for_collisions(routes: Sequence[BaseRoute]) -> None:
    """Check the whole app, and log which routes are hidden.

    :raises StartupRefusal: HR112 a route of the user is never reached.
    """
    found = collisions_in(list(places_of(routes)))
    gone = [one for one in found if one.first.ours and one.hidden == "all" and not one.second.mount]
    if gone:
        raise _refusal(gone)
    for one in found:
        if one.second.mount or one.second.path.endswith(":path}"):
            continue  # a route that takes all other paths is meant to come last
        _log.warning(
            "route_hidden",
            route=named(one.second),
            request=one.request,
            answered_by=f"{'headrace' if one.first.ours else 'the app'} ({named(one.first)})",
            remedy="include_router(headrace.router, prefix=...) leaves room for both",
        )


def _refusal(gone: Sequence[Collision]) -> StartupRefusal:
    names = list(dict.fromkeys(named(one.second) for one in gone))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    few = len(names) == 1
    return StartupRefusal(
        "HR112",
        where=f"{'route' if few else 'routes'} {', '.join(names[:_SHOWN])}{more}",
        what=f"{'it is' if few else 'they are'} never reached: headrace.router, which was included"
        " before, answers there",
        remedy="Give headrace a place of its own,"
        ' include_router(headrace.router, prefix="/agents"),'
        " or include it after your routes, so that yours answer.",
    )


def named(place: Place) -> str:
    """The route as people write it: methods and path."""
    if place.mount:
        return f"mount {place.path or '/'}"
    if place.socket:
        return f"WebSocket {place.path}"
    methods = sorted((place.methods or frozenset()) - {"HEAD"}) or sorted(place.methods or ())
    return f"{' '.join(methods)} {place.path}".strip()


def _of_one_kind(first: Place, second: Place) -> bool:
    """Whether one connection could be for both. A mounted app takes requests and WebSockets."""
    return first.mount or second.mount or first.socket is second.socket


def _is_headraces(endpoint: Any) -> bool:
    module = getattr(endpoint, "__module__", None) or ""
    return module.partition(".")[0] == __name__.partition(".")[0]


def _share_method(first: Place, second: Place) -> bool:
    if first.methods is None or second.methods is None:
        return True
    shared = first.methods & second.methods
    # HEAD comes with GET: a collision of HEAD alone hides no route that somebody wrote.
    return bool(shared - {"HEAD"}) or shared == first.methods == second.methods


def _hidden(first: Place, second: Place) -> Collision | None:
    taken, wanted = _pattern(first.whole_path), _pattern(second.whole_path)
    general = _sample(second.whole_path)
    if general is not None and taken.match(general):
        return Collision(first, second, second.path, "all")
    example = _both(first.whole_path, second.whole_path)
    if example is not None and taken.match(example) and wanted.match(example):
        return Collision(first, second, example, "some")
    return None


@cache
def _pattern(path: str) -> Pattern[str]:
    return compile_path(path)[0]


@cache
def _sample(path: str) -> str | None:
    """A request path that matches ``path`` and no literal of another route."""
    parts = [_of_segment(segment) for segment in path.split("/")]
    return None if None in parts else "/".join(str(part) for part in parts)


def _both(first: str, second: str) -> str | None:
    """A request path that may match both: for each segment a text that both accept."""
    one, other = first.split("/"), second.split("/")
    example: list[str] = []
    for number in range(max(len(one), len(other))):
        a, b = _at(one, number), _at(other, number)
        if a is None or b is None:
            return None
        part = _of_segment(a, b)
        if part is None:
            return None
        example.append(part)
    return "/".join(example)


def _at(segments: list[str], number: int) -> str | None:
    """The segment with this number. A last ``{name:path}`` stands for all that follow."""
    if number < len(segments):
        return segments[number]
    return segments[-1] if segments[-1].endswith(":path}") else None


@cache
def _of_segment(*segments: str) -> str | None:
    """A text that each of the segments accepts."""
    literal = [segment for segment in segments if "{" not in segment]
    filled = [_filled(segment, sample) for segment in segments for sample in _SAMPLES]
    patterns = [_pattern(f"/{segment}") for segment in segments]
    for candidate in [*literal, *filled]:
        if all(pattern.match(f"/{candidate}") for pattern in patterns):
            return candidate
    return None


def _filled(segment: str, sample: str) -> str:
    text, rest = "", segment
    while "{" in rest:
        before, _, rest = rest.partition("{")
        text += before + sample
        rest = rest.partition("}")[2]
    return text + rest


def _flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    """The routes, with those of included routers under their whole paths.

    Newer releases of FastAPI keep included routers as they are and list their routes by this
    function; older ones copy the routes.
    """
    flatten = getattr(routing, "iter_route_contexts", None)
    return iter(routes) if flatten is None else flatten(routes)
