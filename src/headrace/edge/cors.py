"""CORS: which web pages may use this server. ``http.cors`` of the manifest decides, then the
setting ``edge.allowed_origins``.

By default no page of another origin may. A server that answers only callers of its own machine
allows pages of this machine: any other page that a user opens in a browser could read all
conversations.
"""

import inspect
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.edge.web_pages import LOOPBACK_PAGES, Origins, WebPages
from headrace.graphs.http_entry import CorsEntry
from headrace.settings import Settings

#: Headers that clients need: the id of the run, the address of its stream, the next page.
EXPOSED = (
    "Content-Location",
    "Location",
    "X-Pagination-Total",
    "X-Pagination-Next",
    "X-Request-Id",
)

#: Some browsers ask first when a web page wants to reach a server on this machine. Starlette
#: answers that question since 0.51. With an older one, such a browser refuses the page.
_PRIVATE_NETWORK = (
    {"allow_private_network": True}
    if "allow_private_network" in inspect.signature(CORSMiddleware).parameters
    else {}
)


def cors_policy(entry: CorsEntry | None, settings: Settings) -> dict[str, Any]:
    """The arguments of Starlette's ``CORSMiddleware``."""
    given = entry or CorsEntry()
    origins, pattern = given.allow_origins, given.allow_origin_regex
    if not origins and pattern is None:
        origins = settings.edge.origins
        if not origins and settings.local_only:
            pattern = LOOPBACK_PAGES
    known = {name.lower() for name in EXPOSED}
    return {
        "allow_origins": origins,
        "allow_origin_regex": pattern,
        "allow_methods": given.allow_methods,
        "allow_headers": given.allow_headers,
        "allow_credentials": given.allow_credentials,
        "expose_headers": (
            *EXPOSED,
            *(name for name in given.expose_headers if name.lower() not in known),
        ),
        "max_age": given.max_age,
        **_PRIVATE_NETWORK,
    }


class PageAccess(CORSMiddleware):
    """Starlette's middleware, at nearly no cost for requests that no web page has sent.

    Such requests have no ``Origin``. What Starlette adds to their answers is always one thing, or
    nothing; this class finds out which with the first of them.
    """

    def __init__(self, app: ASGIApp, **policy: Any) -> None:
        super().__init__(app, **policy)
        self._policy = policy
        self._added: list[tuple[bytes, bytes]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _has(b"origin", scope["headers"]):
            await super().__call__(scope, receive, send)
            return
        added = self._added
        if added is None:
            added = self._added = await self._found_added(scope, receive)

        async def send_with_added(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                if _has(b"vary", headers):
                    await self.send(message, send, Headers(scope=scope))
                    return
                message["headers"] = [*headers, *added]
            await send(message)

        await self.app(scope, receive, send_with_added if added else send)

    async def _found_added(self, scope: Scope, receive: Receive) -> list[tuple[bytes, bytes]]:
        """What Starlette adds to the headers of an answer."""
        found: list[tuple[bytes, bytes]] = []

        async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def note(message: Message) -> None:
            found.extend(message["headers"])

        await CORSMiddleware(answer, **self._policy)(scope, receive, note)
        return found


def web_pages(
    entry: CorsEntry | None, settings: Settings, app: Any = None, *, handled: bool = False
) -> WebPages:
    """The rules for web pages.

    :param handled: handlers of the manifest tell who calls.

    :param app: the app that headrace's lifespan is for. Pages that its own ``CORSMiddleware``
        allows may use the API too.
    """
    theirs = [
        one.kwargs
        for one in getattr(app, "user_middleware", ())
        if isinstance(one.cls, type) and issubclass(one.cls, CORSMiddleware)
    ]
    policies = [cors_policy(entry, settings), *theirs]
    origins = Origins(
        [origin for policy in policies for origin in policy.get("allow_origins", ())],
        [found for policy in policies if (found := policy.get("allow_origin_regex"))],
    )
    hosts = settings.edge.host_names or (() if settings.local_only else None)
    return WebPages(origins, guarded=not settings.credentials_needed, hosts=hosts, handled=handled)


def _has(wanted: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    # No generator: this is done twice for each request.
    for name, _ in headers:  # noqa: SIM110
        if name.lower() == wanted:
            return True
    return False
