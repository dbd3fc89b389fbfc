"""Which requests only read: a caller that may not write is let through with these alone."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

#: Methods that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Endpoints of POST that only read: what they look for is in the body.
READING_POSTS = frozenset(
    {
        "/assistants/count",
        "/assistants/search",
        "/assistants/{assistant_id}/versions",
        "/runs/crons/count",
        "/runs/crons/search",
        "/store/items/search",
        "/store/namespaces",
        "/threads/count",
        "/threads/search",
        "/threads/{thread_id}/history",
        "/threads/{thread_id}/state/checkpoint",
        "/threads/{thread_id}/stream/events",
    }
)

#: A parameter with which reading cancels a run in the end, and how it says no.
_CANCELS = "cancel_on_disconnect"
_NO = frozenset({"0", "f", "false", "n", "no", "off"})


def only_reads(own_path: str, methods: Collection[str]) -> bool:
    """Whether the requests to a route of headrace only read."""
    return set(methods) <= _READING or (set(methods) == {"POST"} and own_path in READING_POSTS)


def reads(scope: Mapping[str, Any]) -> bool:
    """Whether a request to a route of the user's app only reads, by its method. A WebSocket may
    write.
    """
    return scope["type"] == "http" and scope["method"] in _READING


def cancels(scope: Mapping[str, Any]) -> bool:
    """Whether the request cancels its run when the client leaves."""
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    return any(name == _CANCELS and value.lower() not in _NO for name, value in query)
