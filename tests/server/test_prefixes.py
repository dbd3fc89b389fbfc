"""Where an app puts headrace's router, and where answers then say that runs are."""

import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from langgraph_sdk.client import LangGraphClient
from pydantic import SecretStr

import headrace
from headrace.edge.routing import LocationRoute, OwnRoute
from headrace.server.app import build_router
from headrace.settings import Settings
from tests.support.apps import started
from tests.support.graphs.forms import ctx

RUN = {"assistant_id": "agent", "input": {}}


def included(prefix: str) -> FastAPI:
    app = FastAPI()
    app.include_router(headrace.router, prefix=prefix)
    return app


def mounted(path: str, prefix: str = "") -> FastAPI:
    app = FastAPI()
    app.mount(path, included(prefix))
    return app


def nested() -> FastAPI:
    outer = APIRouter(prefix="/v1")
    outer.include_router(headrace.router, prefix="/ai")
    app = FastAPI()
    app.include_router(outer, prefix="/api")
    return app


def twice() -> FastAPI:
    app = included("")
    app.include_router(headrace.router, prefix="/x")
    return app


def with_root(app, root_path: str, *, full: bool):
    """A server that was told of its root path, behind a proxy that takes it off."""

    async def served(scope, receive, send):
        if scope["type"] == "http":
            path = root_path + scope["path"] if full else scope["path"]
            scope = {**scope, "root_path": root_path, "path": path}
        await app(scope, receive, send)

    return served


#: The app, what callers see before each path, and whether its server knows of ``/r``, which a
#: proxy in front takes off: uvicorn puts it before the path again, FastAPI does not.
PLACES: dict[str, tuple[Callable[..., FastAPI], tuple[str, ...], str, str]] = {
    "at the root": (included, ("",), "", ""),
    "a prefix": (included, ("/x",), "/x", ""),
    "a prefix of several": (included, ("/x/y/x",), "/x/y/x", ""),
    "a prefix with a parameter": (included, ("/{tenant}",), "/ac me", ""),
    "a prefix that is a word of ours": (included, ("/threads",), "/threads", ""),
    "nested routers": (nested, (), "/api/v1/ai", ""),
    "a mount": (mounted, ("/x",), "/x", ""),
    "a mount and a prefix": (mounted, ("/x", "/y"), "/x/y", ""),
    "twice, at the root": (twice, (), "", ""),
    "twice, with a prefix": (twice, (), "/x", ""),
    "a root path": (included, ("",), "/r", "whole"),
    "a root path and a prefix": (included, ("/x",), "/r/x", "whole"),
    "a root path and a mount": (mounted, ("/x",), "/r/x", "whole"),
    "a root path that is not in the path": (included, ("",), "/r", "short"),
    "the same and a prefix": (included, ("/x",), "/r/x", "short"),
}


@pytest.fixture
async def settings(database_url):
    return Settings.model_validate({"database": {"url": SecretStr(database_url)}})


@pytest.mark.parametrize("place", PLACES)
async def test_locations_lead_back_and_the_sdk_follows_them(place, settings):
    build, arguments, seen, root = PLACES[place]
    app = build(*arguments)
    app.router.lifespan_context = headrace.lifespan(graphs={"agent": ctx}, settings=settings)
    async with started(app) as served:
        if root:
            served = with_root(served, "/r", full=root == "whole")

        async def proxied(scope, receive, send):
            path = scope["path"].removeprefix("/r") if root else scope["path"]
            await served({**scope, "path": path}, receive, send)

        transport = httpx.ASGITransport(proxied)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://server{seen}") as http:
            client = LangGraphClient(http)
            thread = (await client.threads.create())["thread_id"]
            quoted = seen.replace(" ", "%20")
            run = re.escape(f"{quoted}/threads/{thread}/runs/") + "[0-9a-f-]+"
            answer = await http.post(f"/threads/{thread}/runs/wait", json=RUN)
            assert re.fullmatch(run, answer.headers["content-location"])
            assert answer.headers["location"] == f"{answer.headers['content-location']}/join"
            # As a browser reads it, and behind the base URL, where SDKs put it.
            whole = f"http://server{answer.headers['location']}"
            for url in (whole, answer.headers["location"]):
                again = await http.get(url)
                assert again.json() == answer.json(), url
                assert again.headers["location"] == answer.headers["location"], url
            plain = await http.get(answer.headers["content-location"])
            assert plain.json()["status"] == "success"

            stream = await http.post("/runs/stream", json={**RUN, "stream_mode": "values"})
            assert stream.headers["location"].startswith(f"{quoted}/threads/")
            made = await http.post("/runs", json=RUN)
            assert made.headers["content-location"].startswith(f"{quoted}/runs/")
            events = client.runs.stream(thread, "agent", input={}, stream_mode="values")
            assert [part.event async for part in events][-1] == "end"
            assert (await client.threads.get(thread))["thread_id"] == thread
            assert (await http.get("/ok")).status_code == 200


async def test_what_only_looks_like_a_place_twice_is_not_there(settings):
    app = included("/x")
    app.router.lifespan_context = headrace.lifespan(graphs={"agent": ctx}, settings=settings)
    async with started(app) as served:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            for path in ("/y/x/threads/a/runs/b", "/x/y/threads/a/runs/b", "/x/x/x/threads/a/runs"):
                answer = await http.get(path)
                assert answer.json() == {"detail": "Not Found"}, path


def test_every_route_knows_its_own_path_and_those_that_are_followed_answer_twice():
    routes = list(flat(build_router()))
    assert [one.path for one in routes if one.own_path != one.path] == []
    followed = {one.own_path for one in routes if isinstance(one, LocationRoute)}
    assert {
        "/threads/{thread_id}/runs/{run_id}",
        "/threads/{thread_id}/runs/{run_id}/join",
        "/threads/{thread_id}/runs/{run_id}/stream",
    } <= followed


def flat(router):
    for route in router.routes:
        inside = getattr(route, "original_router", None)
        if inside is not None:
            yield from flat(inside)
        elif isinstance(route, OwnRoute):
            yield route
