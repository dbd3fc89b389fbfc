"""Which rooms of the API are served: all, but for those that the manifest disables.

The one place to ask: the router, the OpenAPI page and ``/info`` follow it.
"""

from headrace.graphs.http_entry import HttpEntry

#: What there is to be served. Probes and ``/ok`` are always there, and no room.
ALL_ROOMS = frozenset({"assistants", "threads", "runs", "store", "chat", "meta"})

#: A message to /chat makes a thread and a run: an app without either room has no /chat.
_NEEDED_BY_CHAT = frozenset({"threads", "runs"})


def rooms_of(http: HttpEntry) -> frozenset[str]:
    """The names of the rooms that are served."""
    rooms = ALL_ROOMS - http.disabled
    return rooms if rooms >= _NEEDED_BY_CHAT else rooms - {"chat"}
