"""The table finds the routes that the framework would find, and the answers are those it gives."""

from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Match, Mount, Route, WebSocketRoute

from headrace.edge.route_table import RouteTable
from headrace.edge.routing import new_router
from headrace.server.api import ServedApi
from headrace.server.app import create_app
from tests.support.apps import app_client, settings_for, started, write_manifest

#: The same in each process, because it is part of the names of tests.
THREAD = "0199c0de-0000-7000-8000-000000000001"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def api_of(app: Any) -> ServedApi:
    """The API inside its middleware."""
    while not isinstance(app, ServedApi):
        app = app.app
    return app


@pytest.fixture(scope="module")
def settings(module_database, tmp_path_factory):
    return settings_for(module_database, write_manifest(tmp_path_factory.mktemp("table")))


def asked(method: str, path: str, root: str = "") -> dict:
    return {"type": "http", "method": method, "path": path, "root_path": root, "headers": []}


def found_by_framework(routes, scope):
    for route in routes:
        match, inner = route.matches(dict(scope))
        if match is Match.FULL:
            return route, inner["path_params"]
    return None


def paths_of(routes):
    filled = [
        route.path.replace("{namespace:path}", "a/b").replace("{", "").replace("}", "")
        for route in routes
    ]
    odd = ["", "/", "//", "/threads/", "/threads//runs", "/threads/\n", "/runs/wait\n", "/nowhere"]
    longer = [f"{path}/more" for path in filled]
    shorter = [path.rpartition("/")[0] for path in filled]
    return sorted({*filled, *odd, *longer, *shorter, *(f"{path}/" for path in filled)})


@pytest.mark.parametrize("root", ["", "/agents", "/threads"])
def test_the_table_finds_what_the_framework_finds(settings, root):
    api = api_of(create_app(settings))
    hits = 0
    for path in paths_of(api.router.routes):
        for method in METHODS:
            scope = asked(method, root + path, root)
            found = api.table.find(scope)
            if found is not None:
                route, parameters = found_by_framework(api.router.routes, scope)
                assert (found[0] is route, found[1]) == (True, parameters), scope
                hits += 1
    assert hits > 40


def test_the_table_has_all_that_make_and_follow_runs(settings):
    api = api_of(create_app(settings))
    for method, path in [
        ("POST", "/threads"),
        ("POST", "/runs/wait"),
        ("POST", f"/threads/{THREAD}/runs/stream"),
        ("GET", f"/threads/{THREAD}/state"),
        ("GET", f"/threads/{THREAD}/runs/{THREAD}/join"),
        ("GET", "/livez"),
    ]:
        assert api.table.find(asked(method, path)) is not None, path


def test_an_earlier_route_goes_first_whatever_it_is():
    router = new_router(tag="threads")

    @router.get("/a/{name}")
    async def named(name: str) -> None: ...

    @router.get("/a/b")
    async def fixed() -> None: ...

    async def other(*_: object) -> None: ...

    def chosen(*before, path="/a/b"):
        found = RouteTable([*before, *router.routes]).find(asked("GET", path))
        return found and found[0].name

    assert chosen() is None
    for route in router.routes:
        route.__dict__["plan"] = object()
    assert chosen() == "named"
    assert chosen(WebSocketRoute("/a/b", other)) == "named"
    assert chosen(Route("/a/{rest:path}", other)) is None
    assert chosen(Mount("/a", app=other)) is None
    assert chosen(Route("/a/b", other)) is None
    assert chosen(Route("/a/b", other), path="/a/c") == "named"
    assert chosen(Route("/a/b", other, methods=["POST"])) == "named"
    assert chosen(Route("/z/{rest:path}", other)) == "named"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(settings):
    """Two clients of one server: the second goes through the framework alone."""
    async with AsyncExitStack() as stack:
        clients = []
        for direct in (True, False):
            app = create_app(settings)
            if not direct:
                api_of(app).table = RouteTable([])
            served = await stack.enter_async_context(started(app))
            transport = httpx.ASGITransport(served, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://server")
            clients.append(await stack.enter_async_context(client))
        yield clients


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tool_that_is_put_into_the_framework_sees_each_request(settings, monkeypatch):
    seen = []
    own = Starlette.__call__

    async def observed(app, scope, receive, send):
        seen.append(scope.get("path"))
        await own(app, scope, receive, send)

    monkeypatch.setattr(Starlette, "__call__", observed)
    async with app_client(settings) as http:
        assert (await http.get("/livez")).status_code == 200
    assert "/livez" in seen


JSON = {"content-type": "application/json"}
REQUESTS = [
    ("POST", "/runs/wait", {"json": {"assistant_id": "nobody"}}),
    ("POST", "/runs/wait", {"json": {}}),
    ("POST", "/runs/wait", {"json": {"assistant_id": 7, "stream_mode": ["x"]}}),
    ("POST", "/runs/wait", {"json": []}),
    ("POST", "/runs/wait", {"content": "null", "headers": JSON}),
    ("POST", "/runs/wait", {"content": "{", "headers": JSON}),
    ("POST", "/runs/wait", {"content": "", "headers": JSON}),
    ("POST", "/runs/wait", {}),
    ("POST", "/runs/wait", {"content": "{}"}),
    ("POST", "/runs/wait", {"content": "{}", "headers": {"content-type": "text/plain"}}),
    ("POST", "/runs/wait", {"content": "{}", "headers": {"content-type": "application/x+json"}}),
    ("POST", "/runs/wait", {"content": "{}", "headers": {"content-type": "application"}}),
    (
        "POST",
        "/runs/wait",
        {"content": "{}", "headers": {"content-type": "application/json; charset=utf-8"}},
    ),
    ("POST", "/runs/batch", {"json": []}),
    ("POST", "/runs/batch", {"json": [{"assistant_id": "nobody"}, {}]}),
    ("POST", "/runs/wait", {"json": {}, "headers": {"idempotency-key": "x" * 300}}),
    ("POST", "/threads", {"json": {"if_exists": "x"}}),
    ("POST", "/threads", {"json": {"thread_id": "\ud7ff", "metadata": 1}}),
    ("POST", f"/threads/{THREAD}/runs/stream", {"json": {"assistant_id": ""}}),
    ("POST", f"/threads/{'x' * 300}/runs/stream", {"json": {"assistant_id": ""}}),
    ("POST", f"/threads/{'x' * 300}/runs/stream", {"content": "{", "headers": JSON}),
    ("GET", f"/threads/{THREAD}", {}),
    ("HEAD", f"/threads/{THREAD}", {}),
    ("GET", f"/threads/{THREAD}?include=x", {}),
    ("GET", f"/threads/{THREAD}/state", {}),
    ("GET", f"/threads/{THREAD}/state?subgraphs=perhaps", {}),
    ("GET", f"/threads/{THREAD}/state/{'x' * 300}", {}),
    ("GET", f"/threads/{THREAD}/runs?limit=-1&offset=a&status=b", {}),
    ("GET", f"/threads/{THREAD}/runs/{THREAD}/stream", {"headers": {"last-event-id": "9" * 70000}}),
    ("GET", f"/threads/{THREAD}/runs/x/join?cancel_on_disconnect=maybe", {}),
    ("PATCH", f"/threads/{THREAD}", {"json": {}, "headers": {"prefer": "x" * 1001}}),
    ("POST", "/threads/search", {}),
    ("POST", "/threads/count", {"json": {"status": "x"}}),
    ("DELETE", f"/threads/{THREAD}/", {}),
    ("PUT", "/threads", {"json": {}}),
    *(
        ("POST", "/runs/wait", {"content": content, "headers": JSON})
        for content in (
            b"\xef\xbb\xbf{}",
            b'{"assistant_id": "\xff"}',
            b'{"assistant_id": "a", "assistant_id": 1}',
            b'{"assistant_id": NaN}',
            b'{"assistant_id": 1e999}',
            b'{"assistant_id": ' + b"9" * 30 + b"}",
            b'{"assistant_id": ' + b"9" * 5000 + b"}",
            b"[" * 200 + b"]" * 200,
            b'{"assistant_id": "\\u0000"}',
            b'{"assistant_id": "\\ud800"}',
            b"7",
            b'"text"',
        )
    ),
    (
        "POST",
        "/runs/wait",
        {"content": "{}", "headers": {b"content-type": b"application/json;a=\xe9"}},
    ),
    (
        "POST",
        "/runs/wait",
        {"content": "{}", "headers": [("content-type", "text/a"), ("content-type", "text/b")]},
    ),
    ("GET", f"/threads/{THREAD}/runs?limit=1&limit=x&limit=", {}),
    ("GET", f"/threads/{THREAD}/runs?%6cimit=x&=&;", {}),
    ("GET", "/threads/%2e%2e%2fa/state", {}),
    ("GET", "/threads/a%2Fstate", {}),
    ("GET", "/threads/%00%0a/state", {}),
    ("GET", "/threads/%ff/state", {}),
    ("GET", "//threads/a", {}),
    ("OPTIONS", "/threads", {}),
    ("get", "/livez", {}),
    ("HEAD", "/runs/wait", {}),
    ("HEAD", "/livez", {}),
    ("GET", "/readyz?x=1", {}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("method", "path", "more"), REQUESTS)
async def test_the_answer_is_that_of_the_framework(both, method, path, more):
    answers = [await client.request(method, path, **more) for client in both]
    told = [
        (
            answer.status_code,
            answer.content,
            {name: value for name, value in answer.headers.items() if name != "x-request-id"},
        )
        for answer in answers
    ]
    assert told[0] == told[1]
