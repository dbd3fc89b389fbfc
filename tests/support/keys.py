"""Which routes ask a caller for a key: all of a server's own but health, /ok and /info."""

import httpx
from fastapi.routing import APIRoute

from headrace.server.app import build_router

PUBLIC = {"/ok", "/info", "/livez", "/readyz", "/startupz", "/health", "/metrics"}
ROUTES = [
    *sorted(
        (method, route.path)
        for route in build_router().routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ),
    ("GET", "/openapi.json"),
]


def check_route(url: str, method: str, route: str, *, key: str) -> None:
    """It tells strangers what it wants, and lets ``key`` through; a public one asks for nothing."""
    for name in ("thread_id", "run_id", "assistant_id"):
        route = route.replace(f"{{{name}}}", "1")
    bare = ask(url + route, method)
    if route in PUBLIC:
        assert bare.status_code in (200, 503)
        return
    assert bare.status_code == 401, f"{method} {route}"
    assert set(bare.json()) == {"detail", "code"}
    assert "x-api-key" in bare.json()["detail"]
    assert bare.headers["www-authenticate"]
    assert ask(url + route, method, key=key + "x").status_code == 401
    assert ask(url + route, method, key=key).status_code != 401


def ask(url: str, method: str, *, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"x-api-key": key}
    return httpx.request(method, url, content=b"{not json", headers=headers, timeout=20)
