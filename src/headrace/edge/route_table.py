"""Finds the route of a request by hash.

The framework tries one pattern after another, and there are about fifty. The table is made of the
framework's own routes, so each is declared once. Where the table finds nothing, the framework looks
through its routes as usual: it decides on 404, 405, and on every pattern that is no list of
segments.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Scope

from headrace.edge.prefix import path_below_prefix
from headrace.edge.routing import HeadraceRoute

_PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A route, its rank among all routes, and the positions of its parameters in a path."""

    rank: int
    route: Route
    parameters: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, rank: int, route: Route, names: list[str | None]) -> "_Entry":
        found = tuple((name, at) for at, name in enumerate(names) if name is not None)
        return cls(rank, route, found)


@dataclass(frozen=True, slots=True)
class _SegmentGroup:
    """Routes that have their parameters at the same positions.

    :ivar fixed: picks the fixed segments of a path, which are the key of ``entries``.
    """

    fixed: Callable[[list[str]], Any]
    entries: dict[Any, _Entry]


class RouteTable:
    """The routes of headrace in an app.

    :param routes: all routes of the app, in the order in which the framework tries them.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        #: By method and number of segments, then by the positions of the fixed segments.
        self._groups: dict[tuple[str, int], dict[tuple[int, ...], _SegmentGroup]] = {}
        #: How the patterns begin that are no list of segments.
        open_patterns: list[str] = []
        for rank, route in enumerate(routes):
            if isinstance(route, WebSocketRoute):
                continue
            path = str(getattr(route, "path", ""))
            names = _names(path)
            begin = path.partition("{")[0]
            # An earlier open pattern may match the requests of this route.
            hidden = any(begin.startswith(one) or one.startswith(begin) for one in open_patterns)
            if isinstance(route, Route) and names is not None and not hidden:
                self._add(_Entry.of(rank, route, names), path.split("/"))
            else:
                open_patterns.append(begin)

    def _add(self, entry: _Entry, segments: list[str]) -> None:
        parameters = dict(entry.parameters).values()
        fixed = tuple(at for at in range(len(segments)) if at not in parameters)
        for method in entry.route.methods or ():
            groups = self._groups.setdefault((method, len(segments)), {})
            group = groups.setdefault(fixed, _SegmentGroup(itemgetter(*fixed), {}))
            group.entries.setdefault(group.fixed(segments), entry)

    def find(self, scope: Scope) -> tuple[HeadraceRoute, Mapping[str, str]] | None:
        """The route that answers, with the parameters of the path. None: ask the framework."""
        path = path_below_prefix(scope)
        if path == scope.get("root_path") or path.endswith("\n"):
            # The framework has rules of its own for an empty path, and for a line break at the end.
            return None
        segments = path.split("/")
        found: _Entry | None = None
        for group in self._groups.get((scope["method"], len(segments)), {}).values():
            entry = group.entries.get(group.fixed(segments))
            if entry is not None and (found is None or entry.rank < found.rank):
                found = entry
        if found is None or not isinstance(found.route, HeadraceRoute) or found.route.plan is None:
            return None
        parameters = {name: segments[position] for name, position in found.parameters}
        # No pattern matches an empty segment.
        return (found.route, parameters) if all(parameters.values()) else None


def _names(path: str) -> list[str | None] | None:
    """The parameter in each segment of a pattern; None in place of a fixed segment.

    None for a pattern that is no list of segments, such as ``/files/{path:path}``.
    """
    names: list[str | None] = []
    for segment in path.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None and "{" in segment:
            return None
        names.append(None if parameter is None else parameter[1])
    return names
