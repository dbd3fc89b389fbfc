"""The whole server below a path: ``http.mount_prefix`` of the manifest."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.edge.responses import json_response

#: What machines of the same pod ask for; these know no prefix.
AT_ROOT = frozenset({"/livez", "/readyz", "/startupz", "/health", "/metrics", "/ok"})

_OWN_LOCATIONS = ("/threads/", "/runs/")


def path_below_prefix(scope: Scope) -> str:
    """The path of a request as routes know it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class MountPrefix:
    """Pure ASGI: takes the prefix off requests, and puts it before the locations of answers.

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

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in ("location", "content-location"):
                    if headers.get(name, "").startswith(_OWN_LOCATIONS):
                        headers[name] = self._prefix + headers[name]
            await send(message)

        await self._app(scope, receive, send_with_prefix)

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
