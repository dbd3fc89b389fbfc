"""Callers of other machines, where a server has no keys and headrace did not choose its address."""

import asyncio
import re
import socket
import threading
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

import headrace
from headrace.auth.api_keys import may_be_remote
from headrace.edge.routing import HeadraceRoute
from headrace.server.app import build_router
from headrace.settings import Settings
from tests.support.apps import started
from tests.support.graphs.forms import ctx
from tests.support.processes import free_port

KEY = "a-key-of-the-tests-1"
LOCAL = ("127.0.0.1", 4711)
STRANGER = ("192.0.2.77", 4711)


def app_of(database_url, *, mounted=False, **more) -> FastAPI:
    settings = Settings.model_validate({"database": {"url": SecretStr(database_url)}, **more})
    app = FastAPI(lifespan=headrace.lifespan(graphs={"agent": ctx}, settings=settings))
    if mounted:
        below = FastAPI()
        below.include_router(headrace.router)
        app.mount("/x", below)
    else:
        app.include_router(headrace.router, prefix="/x")

    @app.get("/own")
    async def own() -> str:
        return "theirs"

    return app


@asynccontextmanager
async def client_of(app):
    async with started(app) as served:

        def ask(path, client=LOCAL, **headers):
            transport = httpx.ASGITransport(served, client=client)
            asking = httpx.AsyncClient(transport=transport, base_url="http://server")
            return asking.post(path, json={}, headers=headers)

        yield ask


@pytest.mark.parametrize("mounted", [False, True])
async def test_a_stranger_is_refused_where_nobody_asks_for_a_key(database_url, mounted):
    async with client_of(app_of(database_url, mounted=mounted)) as ask:
        assert (await ask("/x/threads")).status_code == 200
        for client in (STRANGER, ("2001:db8::1", 1), ("::ffff:192.0.2.7", 1), ("localhost", 1)):
            answer = await ask("/x/threads", client)
            assert (answer.status_code, answer.json()["code"]) == (403, "stranger_refused"), client
            assert "HEADRACE_API_KEYS" in answer.json()["detail"]
            assert "HEADRACE_AUTH=none" in answer.json()["detail"]


async def test_a_header_makes_nobody_local(database_url):
    """A server that believes any proxy takes the caller's address from what the caller sends."""
    async with client_of(app_of(database_url)) as ask:
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Proto", "Via"):
            for client in (LOCAL, STRANGER, None):
                answer = await ask("/x/threads", client, **{name: "127.0.0.1"})
                assert answer.status_code == 403, (name, client)


async def test_with_keys_or_without_auth_everybody_is_answered_as_ever(database_url):
    async with client_of(app_of(database_url, api_keys=KEY)) as ask:
        assert (await ask("/x/threads", STRANGER)).status_code == 401
        assert (await ask("/x/threads", STRANGER, **{"x-api-key": KEY})).status_code == 200
    async with client_of(app_of(database_url, auth="none")) as ask:
        forwarded = {"X-Forwarded-For": "198.51.100.4"}
        assert (await ask("/x/threads", STRANGER, **forwarded)).status_code == 200


@pytest.mark.parametrize(
    ("client", "stranger"),
    [
        (("127.0.0.1", 1), False),
        (("127.8.0.1", 1), False),
        (("::1", 1), False),
        (("::ffff:127.0.0.1", 1), False),
        (None, False),
        (("", 0), False),
        (("unix:/run/app.sock", None), False),
        (("testclient", 50000), False),
        (("10.0.0.1", 1), True),
        (("fe80::1%eth0", 1), True),
        (("0.0.0.0", 1), True),
        (("localhost", 1), True),
        (("evil.example", 1), True),
    ],
)
def test_who_is_on_this_machine(client, stranger):
    assert may_be_remote({"client": client, "headers": []}) is stranger
    assert may_be_remote({"client": client, "headers": [(b"x-forwarded-for", b"::1")]})


async def test_every_route_asks_and_the_public_ones_alone_do_not(database_url):
    """All that the router brings, whatever is added to it later."""
    public = {"/livez", "/startupz", "/readyz", "/health", "/ok", "/info"}
    # Its route asks by itself, if it has to.
    by_itself = {"/metrics"}
    routes = [route for route in _flat(build_router()) if hasattr(route, "own_path")]
    open_paths = {
        route.own_path for route in routes if not isinstance(route, HeadraceRoute) or route.public
    }
    assert open_paths == public | by_itself
    app = app_of(database_url)
    async with started(app) as served:
        transport = httpx.ASGITransport(served, client=STRANGER)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            assert (await client.get("/own")).json() == "theirs"
            asked = 0
            for route in routes:
                path = "/x" + re.sub(r"{[^}]*}", "y", route.own_path)
                for method in route.methods:
                    answer = await client.request(method, path, content=b"{")
                    refused = answer.status_code == 403
                    assert refused is (route.own_path not in public), (method, path)
                    asked += refused
            assert asked > 40


def test_the_tests_of_an_app_need_no_key(database_url):
    with TestClient(app_of(database_url)) as client:
        assert client.post("/x/threads", json={}).status_code == 200


async def test_it_is_told_at_start(database_url):
    for more, told in (({}, 1), ({"api_keys": KEY}, 0), ({"auth": "none"}, 0)):
        with structlog.testing.capture_logs() as lines:
            async with started(app_of(database_url, **more)):
                pass
        assert [line["event"] for line in lines].count("api_without_keys") == told, more
    settings = Settings.model_validate({"database": {"url": SecretStr(database_url)}})
    without = FastAPI(lifespan=headrace.lifespan(graphs={"agent": ctx}, settings=settings))
    with structlog.testing.capture_logs() as lines:
        async with started(without):
            pass
    assert "api_without_keys" not in [line["event"] for line in lines]


@pytest.mark.parametrize("trust", ["127.0.0.1", "*"])
def test_plain_uvicorn_on_every_address(database_url, trust):
    outside = _other_address()
    with uvicorn_of(app_of(database_url), forwarded_allow_ips=trust) as port:
        local = f"http://127.0.0.1:{port}/x/threads"
        remote = f"http://{outside}:{port}/x/threads"
        forged = {"X-Forwarded-For": "127.0.0.1"}
        assert httpx.post(local, json={}).status_code == 200
        assert httpx.post(remote, json={}).status_code == 403
        assert httpx.post(remote, json={}, headers=forged).status_code == 403


def _flat(router):
    for route in router.routes:
        inside = getattr(route, "original_router", None)
        yield from _flat(inside) if inside is not None else [route]


def _other_address() -> str:
    """This machine's address on a network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine is on no network")
        address: str = probe.getsockname()[0]
    return address


@contextmanager
def uvicorn_of(app, **options):
    port = free_port()
    config = uvicorn.Config(app, host="0.0.0.0", port=port, log_level="warning", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.02)
        yield port
    finally:
        server.should_exit = True
        thread.join(20)
