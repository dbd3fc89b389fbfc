"""What stands before the API's own paths: a root path, a mount, a prefix of ``include_router``.

:class:`MountPrefix` is the server's own: ``http.mount_prefix`` of the manifest.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.edge.responses import json_response

#: What machines of the same pod ask for; these know no prefix.
AT_ROOT = frozenset({"/livez", "/readyz", "/startupz", "/health", "/metrics", "/ok"})

#: Where an endpoint keeps the path that headrace has given it.
_OWN_PATH = "headrace_own_path"
_PLACES = ("location", "content-location")


def path_below_prefix(scope: Scope) -> str:
    """The path of a request as routes know it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root)
    return below if below.startswith("/") else path


def own_path_of(endpoint: Callable[..., Any], path: str) -> str:
    """The path that the endpoint was given first.

    Older releases of FastAPI make a route again where it is included, with the prefix in its path.
    """
    own: str = endpoint.__dict__.setdefault(_OWN_PATH, path)
    return own


def at_place(response: Response, scope: Scope, own_path: str) -> Response:
    """``response``, its locations below what stands before ``own_path`` in this request."""
    if "content-location" in response.headers and (before := _before(scope, own_path)):
        for name in _PLACES:
            if name in response.headers:
                response.headers[name] = quote(before) + response.headers[name]
    return response


def _before(scope: Scope, own_path: str) -> str:
    below = path_below_prefix(scope)
    included = below.split("/")[: below.count("/") - own_path.count("/") + 1]
    return str(scope.get("root_path", "")).rstrip("/") + "/".join(included)


def repeated_place(scope: Scope, own_path: str) -> str | None:
    """The path of a request in which what stands before ``own_path`` is there twice, with it once.

    None where it is not.
    """
    root = str(scope.get("root_path", "")).rstrip("/")
    below = path_below_prefix(scope)
    # Root, prefix, root, prefix, own path; the first root is off already.
    twice = below.count("/") - root.count("/") - own_path.count("/")
    if twice < 0 or twice % 2:
        return None
    prefix = "/".join(below.split("/")[: twice // 2 + 1])
    rest = below.removeprefix(prefix)
    if not root + prefix or not rest.startswith(f"{root}{prefix}/"):
        return None
    return rest


class MountPrefix:
    """Pure ASGI: takes the prefix off requests; it is their root path.

    SDKs put a ``Location`` behind their base URL, which has the prefix too. So it is taken off
    where it stands twice.
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
        detail = f"Not Found; what this server has is below {self._prefix} (http.mount_prefix)."
        response = json_response({"detail": detail, "code": "not_found"})
        response.status_code = 404
        await response(scope, receive, send)
