"""Prefixes of the API's paths: a root path, a mount, or the prefix of ``include_router``.

:class:`MountPrefix` adds the prefix that ``http.mount_prefix`` of the manifest names.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.edge.refusals import RefusalResponse

#: Paths without the prefix: probes and Prometheus do not know it.
AT_ROOT = frozenset({"/livez", "/readyz", "/startupz", "/health", "/metrics", "/ok"})

#: The attribute of an endpoint that holds the path headrace has given it.
_OWN_PATH = "headrace_own_path"
_LOCATION_HEADERS = ("location", "content-location")


def path_below_prefix(scope: Scope) -> str:
    """The path of a request without its root path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root)
    return below if below.startswith("/") else path


def own_path_of(endpoint: Callable[..., Any], path: str) -> str:
    """The path that headrace has given the endpoint.

    Older releases of FastAPI create a new route on inclusion, with the prefix in its path.
    """
    own: str = endpoint.__dict__.setdefault(_OWN_PATH, path)
    return own


def with_prefixed_locations(response: Response, scope: Scope, own_path: str) -> Response:
    """``response``, with the prefix of this request before its ``Location`` headers."""
    if "content-location" in response.headers and (prefix := _prefix(scope, own_path)):
        for name in _LOCATION_HEADERS:
            if name in response.headers:
                response.headers[name] = quote(prefix) + response.headers[name]
    return response


def _prefix(scope: Scope, own_path: str) -> str:
    if not scope.get("root_path") and scope["path"].count("/") == own_path.count("/"):
        return ""
    below = path_below_prefix(scope)
    included = below.split("/")[: below.count("/") - own_path.count("/") + 1]
    return str(scope.get("root_path", "")).rstrip("/") + "/".join(included)


def path_with_one_prefix(scope: Scope, own_path: str) -> str | None:
    """The path with the prefix once, for a request that has the prefix twice; else None."""
    root = str(scope.get("root_path", "")).rstrip("/")
    below = path_below_prefix(scope)
    # Twice: root, prefix, root, prefix, own path. The first root is removed already.
    twice = below.count("/") - root.count("/") - own_path.count("/")
    if twice < 0 or twice % 2:
        return None
    prefix = "/".join(below.split("/")[: twice // 2 + 1])
    rest = below.removeprefix(prefix)
    if not root + prefix or not rest.startswith(f"{root}{prefix}/"):
        return None
    return rest


class MountPrefix:
    """Pure ASGI middleware: adds the prefix of a request's path to the root path.

    SDKs append a ``Location`` to their base URL, which has the prefix too. So a prefix that stands
    twice or more in the path is reduced to one. Without the prefix, only ``AT_ROOT`` is served.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in AT_ROOT:
            await self._app(scope, receive, send)
            return
        if not self._below(scope["path"]):
            await self._refuse(scope, receive, send)
            return
        while self._below(scope["path"][len(self._prefix) :]):
            scope["path"] = scope["path"][len(self._prefix) :]
        scope["root_path"] = scope.get("root_path", "") + self._prefix
        await self._app(scope, receive, send)

    def _below(self, path: str) -> bool:
        return path == self._prefix or path.startswith(f"{self._prefix}/")

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        detail = (
            f"Not Found; the paths of this server are below {self._prefix} (http.mount_prefix)."
        )
        await RefusalResponse(detail, "not_found", status=404)(scope, receive, send)
