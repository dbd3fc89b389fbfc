"""``http.app``: an app of the user's and the API as one."""

import asyncio
import json
import sys

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from headrace.auth.api_keys import ApiKeys
from headrace.auth.handlers import Handlers
from headrace.auth.identity import Identity
from headrace.edge.state import State
from headrace.edge.web_pages import Origins, WebPages
from headrace.errors import StartupRefusal
from headrace.lifecycle import Tasks
from headrace.server.app import create_app
from headrace.server.custom_app import KeyGuard
from tests.support.apps import GRAPHS, app_client, settings_for, started, write_manifest
from tests.support.live import LiveServer, live_server
from tests.support.waiting import eventually

KEY = "a-key-of-the-tests-1"
PAGES = WebPages(Origins(), guarded=False, hosts=None)
APP = f"{GRAPHS / 'webapp.py'}:app"
OF_STARLETTE = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

def count(request):
    "Counts."
    return PlainTextResponse(str(request.path_params["number"] + 1))

def everything(scope): ...

app = Starlette(
    routes=[Route("/count/{number:int}", count)],
    middleware=[Middleware(CORSMiddleware, allow_origins=["https://theirs.example"])],
)
"""


@pytest.fixture
def settings(database_url, tmp_path, monkeypatch):
    # Tests of other modules may have loaded it.
    sys.modules.pop("webapp", None)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def settings(http=None, **more):
        manifest = write_manifest(tmp_path, http={"app": APP, **(http or {})})
        return settings_for(database_url, manifest, **more)

    yield settings
    for name in set(sys.modules) - before:
        if name.startswith(("hr_", "webapp")):
            del sys.modules[name]


async def test_both_are_served_and_the_apis_routes_are_the_apis(settings):
    async with app_client(settings()) as client:
        answer = await client.get("/hello")
        assert answer.json() == {"cache": {"warm": True}, "journal": ["theirs up"]}
        assert (await client.get("/ok")).json()["ok"] is True
        assert (await client.put("/threads")).status_code == 405
        assert (await client.post("/ask/4")).json() == {"doubled": 8}
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        assert (await client.get(f"/threads/{thread}")).json()["thread_id"] == thread
        body = {"assistant_id": "ctx", "input": {}, "stream_mode": "values"}
        answer = await client.post("/runs/stream", json=body)
        assert "event: end" in answer.text
        assert "/join" not in answer.headers["location"]
        assert (await client.get("/info")).json()["flags"]["threads"] is True


async def test_their_middleware_wraps_both_and_their_handlers_see_only_theirs(settings):
    async with app_client(settings()) as client:
        for path in ("/hello", "/ok", "/threads/1", "/teapot", "/nothing"):
            assert (await client.get(path)).headers["x-theirs"] == "seen", path
        stopped = await client.post("/threads", json={}, headers={"x-stop": "1"})
        assert stopped.json() == {"detail": "stopped by their middleware"}
        assert (await client.get("/teapot")).json() == {"short": "and stout"}
        assert (await client.get("/nothing")).json() == {"theirs": True}
        missing = await client.get("/threads/01a20f90-ead2-7dda-8dd9-155da35890a5")
        assert (missing.status_code, missing.json()["code"]) == (404, "thread_not_found")
        local = {"Origin": "http://localhost:3000"}
        broken = await client.get("/breaks", headers=local)
        assert broken.status_code == 500
        assert broken.headers["access-control-allow-origin"] == local["Origin"]
        assert broken.headers["x-request-id"]


async def test_theirs_starts_after_ours_and_ends_before(settings):
    async with app_client(settings()) as client:
        await client.get("/hello")
    journal = sys.modules["webapp"].JOURNAL
    assert journal == ["theirs up", "theirs down"]


async def test_their_routes_need_no_key_unless_the_manifest_says_so(settings):
    async with app_client(settings(api_keys=KEY)) as client:
        assert (await client.get("/hello")).status_code == 200
        assert (await client.post("/threads", json={})).status_code == 401
        # Middleware first: theirs saw the request that the API refused.
        assert (await client.post("/threads", json={})).headers["x-theirs"] == "seen"
    async with app_client(settings({"enable_custom_route_auth": True}, api_keys=KEY)) as client:
        answer = await client.get("/hello")
        assert (answer.status_code, answer.headers["x-theirs"]) == (401, "seen")
        assert (await client.get("/hello", headers={"x-api-key": KEY})).status_code == 200
        assert (await client.get("/ok")).status_code == 200


async def test_a_socket_asks_for_a_key_where_its_routes_do():
    guarded = KeyGuard(
        reached, needs=lambda scope: "key" if scope["path"] == "/socket" else "nothing"
    )
    state = {"headrace": State(Identity(ApiKeys([KEY])), Handlers(), PAGES)}
    for path, headers, first in (
        ("/socket", [], "websocket.close"),
        ("/socket", [(b"x-api-key", KEY.encode())], "websocket.accept"),
        ("/other", [], "websocket.accept"),
    ):
        scope = {"type": "websocket", "path": path, "headers": headers, "state": state}
        sent: list[str] = []

        async def send(message, sent=sent):
            sent.append(message["type"])

        await guarded(scope, receive_nothing, send)
        assert sent == [first], (path, headers)


@pytest.mark.parametrize("order", ["auth_first", "middleware_first"])
async def test_a_socket_of_theirs_is_served(settings, order):
    sent: list[str] = []

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b""}
    async with started(create_app(settings({"middleware_order": order}))) as app:
        await app(scope, receive_connect, send)
    assert sent == ["websocket.accept", "websocket.close"]


OF_SOCKETS = """
from fastapi import FastAPI, WebSocket

app = FastAPI()

@app.websocket("/threads/{name}/stream/events")
async def theirs(websocket: WebSocket, name: str):
    await websocket.accept(subprotocol="theirs")
    await websocket.close()

@app.websocket("/{rest:path}")
async def all_others(websocket: WebSocket, rest: str):
    await websocket.accept(subprotocol="theirs")
    await websocket.close()
"""


@pytest.mark.parametrize("order", ["auth_first", "middleware_first"])
def test_the_socket_of_a_thread_is_the_apis_and_asks_for_its_key(database_url, tmp_path, order):
    (tmp_path / "hr_sockets.py").write_text(OF_SOCKETS)
    http = {"app": "./hr_sockets.py:app", "middleware_order": order, "mount_prefix": "/api"}
    manifest = write_manifest(tmp_path, http=http)
    with live_server(
        tmp_path, database_url, config=manifest, processes=1, HEADRACE_API_KEYS=KEY
    ) as server:
        base = server.url.replace("http://", "ws://")
        path = f"{base}/api/threads/0199c0de-0000-7000-8000-000000000000/stream/events"
        with pytest.raises(InvalidStatus) as refused:
            connect(path)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["code"] == "unauthenticated"
        sent = {"x-api-key": KEY}
        with connect(path, additional_headers=sent) as socket:
            socket.send(json.dumps({"id": 1, "method": "agent.getTree"}))
            assert json.loads(socket.recv(timeout=15))["error"] == "no_such_run"
        # What the API has no WebSocket for is theirs, also where it has a route.
        for other in ("/api/theirs", "/api/threads"):
            with connect(f"{base}{other}", subprotocols=[Subprotocol("theirs")]) as socket:
                assert socket.subprotocol == "theirs"
        hidden = [line for line in server.log().splitlines() if "route_hidden" in line]
        assert len(hidden) == 1, hidden
        assert "WebSocket /threads/{name}/stream/events" in hidden[0]


async def receive_connect():
    return {"type": "websocket.connect"}


async def receive_nothing():
    raise AssertionError("nobody asks")


async def reached(scope, receive, send):
    await send({"type": "websocket.accept"})


async def test_with_auth_first_their_middleware_sees_no_stranger(settings):
    http = {"middleware_order": "auth_first", "enable_custom_route_auth": True}
    async with app_client(settings(http, api_keys=KEY)) as client:
        for path in ("/hello", "/threads/1", "/openapi.json"):
            answer = await client.get(path)
            assert (answer.status_code, "x-theirs" in answer.headers) == (401, False), path
            known = await client.get(path, headers={"x-api-key": KEY})
            assert (known.status_code == 401, known.headers["x-theirs"]) == (False, "seen"), path
        for path in ("/ok", "/info", "/livez", "/health"):
            assert (await client.get(path)).headers["x-theirs"] == "seen", path


async def test_the_description_has_both(settings):
    async with app_client(settings({"mount_prefix": "/api"})) as client:
        told = (await client.get("/api/openapi.json")).json()
        assert (await client.get("/api/hello")).status_code == 200
        assert (await client.get("/hello")).status_code == 404
    assert told["paths"]["/hello"]["get"]["description"] == "A greeting."
    assert "post" in told["paths"]["/threads"]
    assert "put" not in told["paths"]["/threads"]
    painted = told["paths"]["/paint"]["get"]["responses"]["200"]["content"]["application/json"]
    assert painted["schema"] == {"$ref": "#/components/schemas/App_Thread"}
    assert "colour" in told["components"]["schemas"]["App_Thread"]["properties"]
    assert "thread_id" in told["components"]["schemas"]["Thread"]["properties"]


async def test_an_app_of_starlettes(settings, tmp_path):
    (tmp_path / "hr_web.py").write_text(OF_STARLETTE)
    async with app_client(settings({"app": "./hr_web.py:app"})) as client:
        assert (await client.get("/count/4")).text == "5"
        told = (await client.get("/openapi.json")).json()["paths"]["/count/{number}"]
        assert told["get"]["summary"] == "Counts."
        # An app that answers pages of other origins itself does so for the API too.
        answer = await client.get("/ok", headers={"Origin": "https://theirs.example"})
        assert answer.headers["access-control-allow-origin"] == "https://theirs.example"
        answer = await client.get("/ok", headers={"Origin": "http://localhost:3000"})
        assert "access-control-allow-origin" not in answer.headers


async def test_a_lifespan_that_raises_is_a_refusal_and_ours_is_closed(settings, tmp_path):
    (tmp_path / "hr_web.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from fastapi import FastAPI\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    raise RuntimeError('no cache')\n"
        "    yield\n"
        "app = FastAPI(lifespan=lifespan)\n"
    )
    with pytest.raises(StartupRefusal) as caught:
        async with app_client(settings({"app": "./hr_web.py:app"})):
            pass
    assert str(caught.value) == (
        "HR107 http.app (./hr_web.py:app): its lifespan raised RuntimeError: no cache"
        " (hr_web.py line 5). Correct that line; the traceback is above. (headrace explain HR107)"
    )


def test_a_server_that_cannot_serve_it_ends_with_one_sentence(database_url, tmp_path):
    (tmp_path / "hr_web.py").write_text("app = 1")
    manifest = write_manifest(tmp_path, http={"app": "./hr_web.py:app"})
    server = LiveServer(tmp_path / "server", database_url, HEADRACE_CONFIG=str(manifest))
    server.start()
    try:
        assert server.wait_exit(60) != 0
    finally:
        server.close()
    assert server.log().count("HR107 http.app (./hr_web.py:app): it is an int, not") == 1
    assert "Traceback" not in server.log()


OF_WAITS = """
import asyncio
from fastapi import FastAPI

app = FastAPI()
go_on = asyncio.Event()

@app.get("/wait")
async def wait():
    await go_on.wait()
    return "waited"

@app.get("/go")
async def go():
    go_on.set()
"""


async def test_requests_to_their_app_leave_places_to_others(settings, tmp_path):
    (tmp_path / "hr_waits.py").write_text(OF_WAITS)
    chosen = settings({"app": "./hr_waits.py:app"}, server={"max_connections": 32})
    async with app_client(chosen) as client:
        tasks = Tasks()
        # A quarter of the connections, and of these three quarters for one address.
        waits = [tasks.start(client.get("/wait"), name=f"wait-{n}") for n in range(6)]
        await eventually(lambda: sum(map(asyncio.Task.done, waits)) == 0)
        await asyncio.sleep(0.2)
        refused = await client.get("/go")
        assert (refused.status_code, refused.json()["code"]) == (429, "caller_share_used")
        assert (await client.post("/threads", json={})).status_code == 200
        waits[0].cancel()
        await eventually(lambda: waits[0].done())
        assert (await client.get("/go")).status_code == 200
        answers = await asyncio.gather(*waits[1:])
        assert [one.json() for one in answers] == ["waited"] * 5
