"""Which routes ask a caller for a key: all of a server's own but probes, /ok and /info."""

import re

import httpx
from fastapi import FastAPI

from headrace.server.app import build_router

PUBLIC = {"/ok", "/info", "/livez", "/readyz", "/startupz", "/health"}


def _routes() -> list[tuple[str, str]]:
    """Method and path of each, as the description has them: routers hide what they include."""
    app = FastAPI()
    app.include_router(build_router())
    return sorted(
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    )


ROUTES = [*_routes(), ("GET", "/openapi.json")]


def check_route(url: str, method: str, route: str, *, key: str) -> None:
    """It tells strangers what it wants, and lets ``key`` through; a public one asks for nothing."""
    route = re.sub(r"{\w+}", "1", route)
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
