"""Which headers of a request its run gets to see."""

from fastapi import Request

from headrace.edge.state import state_of
from headrace.graphs.http_entry import HttpEntry


def configurable_headers(request: Request) -> dict[str, str]:
    """Those that ``http.configurable_headers`` of the manifest includes; by default none."""
    rules = state_of(request).get(HttpEntry).configurable_headers
    return rules.chosen(request.headers.raw) if rules is not None else {}
