"""CORS: which web pages may use this server. ``http.cors`` of the manifest decides, or a default.

By default, a server that needs API keys allows every page, because a page has no key by itself. A
server without keys allows only pages of this machine: any other page that a user opens in a browser
could read all conversations.
"""

import inspect
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from headrace.graphs.http_entry import CorsEntry

#: Headers that clients need: the id of the run, the address of its stream, the next page.
EXPOSED = (
    "Content-Location",
    "Location",
    "X-Pagination-Total",
    "X-Pagination-Next",
    "X-Request-Id",
)

#: Pages of this machine, on any port.
_LOOPBACK = r"https?://(localhost|[a-z0-9.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?"

#: Some browsers ask first when a web page wants to reach a server on this machine. Starlette
#: answers that question since 0.51. With an older one, such a browser refuses the page.
_PRIVATE_NETWORK = (
    {"allow_private_network": True}
    if "allow_private_network" in inspect.signature(CORSMiddleware).parameters
    else {}
)


def cors_policy(entry: CorsEntry | None, *, keys_needed: bool) -> dict[str, Any]:
    """The arguments of Starlette's ``CORSMiddleware``."""
    given = entry or CorsEntry()
    origins, pattern = given.allow_origins, given.allow_origin_regex
    if not origins and pattern is None:
        origins, pattern = (("*",), None) if keys_needed else ((), _LOOPBACK)
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
