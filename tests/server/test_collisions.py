"""Paths that an app and headrace's router both have: who loses one is told, or does not start."""

import json

import pytest
import structlog
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from pydantic import SecretStr
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient

import headrace
from headrace.errors import StartupRefusal
from headrace.server.app import create_app
from headrace.server.collisions import collisions_in, look_for_collisions, places_of
from headrace.settings import Settings
from tests.support.apps import settings_for, started, write_manifest
from tests.support.graphs.forms import ctx


async def theirs() -> str:
    return "theirs"


def app_with(method: str, path: str, *, first: bool, prefix: str = "") -> FastAPI:
    app = FastAPI()
    if first:
        app.add_api_route(path, theirs, methods=[method])
    app.include_router(headrace.router, prefix=prefix)
    if not first:
        app.add_api_route(path, theirs, methods=[method])
    return app


def told(app) -> list[tuple[str, str, str]]:
    with structlog.testing.capture_logs() as lines:
        look_for_collisions(app.routes)
    return [
        (line["route"], line["request"], line["answered_by"])
        for line in lines
        if line["event"] == "route_hidden"
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat"),
        ("GET", "/threads/{name}"),
        ("GET", "/threads/mine"),
        ("GET", "/threads/{number:int}"),
        ("POST", "/threads/{a}/runs/{b}/cancel"),
        ("DELETE", "/threads/t_{number}"),
        ("GET", "/ok"),
        ("GET", "/metrics"),
        ("PUT", "/store/items"),
    ],
)
def test_a_route_that_is_never_reached_keeps_the_app_from_starting(method, path):
    with pytest.raises(StartupRefusal) as caught:
        look_for_collisions(app_with(method, path, first=False).routes)
    said = str(caught.value)
    assert said.startswith(f"HR112 route {method} {path}: it is never reached: ")
    assert 'include_router(headrace.router, prefix="/agents")' in said


@pytest.mark.parametrize(
    ("method", "path", "first"),
    [
        ("GET", "/chat", False),
        ("POST", "/chats", False),
        ("POST", "/threads/{a}/export", False),
        ("PUT", "/threads/{a}", False),
        ("GET", "/{page:path}", False),
        ("GET", "/docs", True),
        ("HEAD", "/threads/{a}", False),
    ],
)
def test_what_does_not_collide_is_left_alone(method, path, first):
    assert told(app_with(method, path, first=first)) == []


def test_a_route_of_the_apps_that_comes_first_answers_and_that_is_told():
    ((route, request, answered_by),) = told(app_with("POST", "/chat", first=True))
    assert (route, request) == ("POST /chat", "/chat")
    assert answered_by == "the app (POST /chat)"
    everything = told(app_with("GET", "/{page:path}", first=True))
    assert ("GET /threads/{thread_id}", "/threads/{thread_id}", "the app (GET /{page:path})") in (
        everything
    )


def test_what_is_hidden_in_part_is_told_with_an_example():
    by_slug = told(app_with("GET", "/{slug}", first=False))
    assert ("GET /{slug}", "/ok", "headrace (GET /ok)") in by_slug
    assert len(by_slug) == 7
    crossing = told(app_with("GET", "/{kind}/count", first=False))
    assert (
        "GET /{kind}/count",
        "/threads/count",
        "headrace (GET /threads/{thread_id})",
    ) in crossing
    assert ("GET /threads/{thread_id}", "/threads/7", "the app (GET /threads/{n:int})") in told(
        app_with("GET", "/threads/{n:int}", first=True)
    )


def test_a_prefix_makes_room_and_is_looked_at_too():
    assert told(app_with("POST", "/chat", first=False, prefix="/agents")) == []
    with pytest.raises(StartupRefusal, match="HR112 route POST /agents/chat: "):
        look_for_collisions(app_with("POST", "/agents/chat", first=False, prefix="/agents").routes)
    with pytest.raises(StartupRefusal, match="HR112 route GET /acme/threads/mine: "):
        look_for_collisions(
            app_with("GET", "/acme/threads/mine", first=False, prefix="/{tenant}").routes
        )


def test_routers_and_mounts_are_looked_into():
    nested = FastAPI()
    below, deeper = APIRouter(prefix="/v1"), APIRouter()
    deeper.include_router(headrace.router)
    below.include_router(deeper)
    nested.include_router(below)
    other = APIRouter(prefix="/v1")
    other.add_api_route("/chat", theirs, methods=["POST"])
    nested.include_router(other)
    with pytest.raises(StartupRefusal, match="HR112 route POST /v1/chat"):
        look_for_collisions(nested.routes)

    mounted, inner = FastAPI(), FastAPI()
    inner.include_router(headrace.router)
    inner.add_api_route("/chat", theirs, methods=["POST"])
    mounted.mount("/x", inner)
    with pytest.raises(StartupRefusal, match="HR112 route POST /x/chat"):
        look_for_collisions(mounted.routes)

    app = FastAPI()
    app.include_router(headrace.router)
    app.mount("/runs", Router([Route("/wait", PlainTextResponse("theirs"), methods=["POST"])]))
    with pytest.raises(StartupRefusal, match="HR112 route POST /runs/wait"):
        look_for_collisions(app.routes)


def test_a_mount_before_the_router_takes_all_below_it():
    app = FastAPI(routes=[Mount("/threads", PlainTextResponse("theirs"))])
    app.include_router(headrace.router)
    said = told(app)
    assert {answered for _, _, answered in said} == {"the app (mount /threads)"}
    assert all(route.split(" ", 1)[1].startswith("/threads/") for route, _, _ in said)
    last = FastAPI()
    last.include_router(headrace.router)
    last.mount("/", PlainTextResponse("a single page"))
    last.router.routes.append(WebSocketRoute("/chat", theirs))
    assert told(last) == []


def test_the_router_may_be_included_twice():
    app = FastAPI()
    app.include_router(headrace.router)
    app.include_router(headrace.router, prefix="/x")
    assert told(app) == []
    assert collisions_in(list(places_of(app.routes))) == []


def test_every_collision_of_many_is_named_in_one_sentence():
    app = FastAPI()
    app.include_router(headrace.router)
    for path in ("/chat", "/runs", "/threads", "/assistants"):
        app.add_api_route(path, theirs, methods=["POST"])
    with pytest.raises(StartupRefusal) as caught:
        look_for_collisions(app.routes)
    assert "HR112 routes POST /" in str(caught.value)
    assert " and 1 more: they are never reached" in str(caught.value)


async def test_an_app_does_not_start_like_this_and_starts_with_a_prefix(database_url):
    settings = Settings.model_validate({"database": {"url": SecretStr(database_url)}})

    def app(prefix: str) -> FastAPI:
        made = FastAPI(lifespan=headrace.lifespan(graphs={"agent": ctx}, settings=settings))
        made.include_router(headrace.router, prefix=prefix)
        made.add_api_route("/chat", theirs, methods=["POST"])
        return made

    with pytest.raises(StartupRefusal, match="HR112"):
        async with started(app("")):
            pass
    with TestClient(app("/agents")) as client:
        assert client.post("/chat").json() == "theirs"
        body = {"assistant_id": "agent", "input": {}}
        assert client.post("/agents/runs/wait", json=body).status_code == 200


def test_what_the_api_hides_of_http_app_is_told(database_url, tmp_path, capsys):
    (tmp_path / "hr_hidden.py").write_text(
        "from fastapi import FastAPI\n"
        "app = FastAPI()\n"
        "@app.put('/threads')\n"
        "async def put(): ...\n"
        "@app.get('/hello')\n"
        "async def hello(): ...\n"
    )
    manifest = write_manifest(tmp_path, http={"app": "./hr_hidden.py:app"})
    create_app(settings_for(database_url, manifest))
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    hidden = [line for line in said if line["event"] == "route_hidden"]
    assert [(line["route"], line["answered_by"]) for line in hidden] == [
        ("PUT /threads", "the API (POST /threads)")
    ]


async def their_socket(websocket: WebSocket) -> None:
    await websocket.accept()


SOCKET = "/threads/{thread_id}/stream/events"


def app_with_socket(path: str, *, first: bool) -> FastAPI:
    app = FastAPI()
    if first:
        app.add_api_websocket_route(path, their_socket)
    app.include_router(headrace.router)
    if not first:
        app.add_api_websocket_route(path, their_socket)
    return app


def test_a_socket_that_is_never_reached_keeps_the_app_from_starting():
    with pytest.raises(StartupRefusal, match=r"HR112 route WebSocket /threads/\{name\}/stream"):
        look_for_collisions(app_with_socket("/threads/{name}/stream/events", first=False).routes)


def test_a_socket_that_hides_the_one_of_headrace_is_told():
    hidden = told(app_with_socket(SOCKET, first=True))
    assert hidden == [(f"WebSocket {SOCKET}", SOCKET, f"the app (WebSocket {SOCKET})")]


@pytest.mark.parametrize("path", ["/socket", "/threads", "/threads/{thread_id}/history"])
@pytest.mark.parametrize("first", [True, False])
def test_a_socket_hides_no_request_and_is_hidden_by_none(path, first):
    assert told(app_with_socket(path, first=first)) == []
