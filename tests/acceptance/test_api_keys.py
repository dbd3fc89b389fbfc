"""A server with keys: every route but health, /ok and /info asks for one."""

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from langgraph_sdk import get_client

from headrace.server.app import build_router
from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

KEYS = ("first-key-of-this-test-5f0e3a1c", "second-key-of-this-test-9b77c1d2")
PUBLIC = {"/ok", "/info", "/livez", "/readyz", "/startupz", "/health", "/metrics"}
ROUTES = sorted(
    (method, route.path)
    for route in build_router().routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    environment: dict[str, Any] = {"HEADRACE_API_KEYS": ",".join(KEYS)}
    with live_server(folder, module_database, config=None, **environment) as running:
        yield running


def path_of(route: str) -> str:
    return route.replace("{thread_id}", "1").replace("{run_id}", "1").replace("{assistant_id}", "1")


@pytest.mark.parametrize(("method", "route"), [*ROUTES, ("GET", "/openapi.json")])
def test_every_route_but_the_public_ones_asks_for_a_key(server, method, route):
    url = server.url + path_of(route)
    bare = httpx.request(method, url, content=b"{not json")
    if route in PUBLIC:
        assert bare.status_code in (200, 503)
        return
    assert bare.status_code == 401
    assert set(bare.json()) == {"detail", "code"}
    assert "x-api-key" in bare.json()["detail"]
    assert bare.headers["www-authenticate"]
    wrong = httpx.request(method, url, content=b"{not json", headers={"x-api-key": KEYS[0] + "x"})
    assert wrong.status_code == 401
    right = httpx.request(method, url, content=b"{not json", headers={"x-api-key": KEYS[1]})
    assert right.status_code != 401


def test_the_page_that_could_send_no_key_is_not_there(server):
    assert httpx.get(f"{server.url}/docs").status_code == 404


@pytest.mark.parametrize("key", KEYS)
async def test_the_sdk_sends_its_key(server, key):
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    async with get_client(url=server.url, api_key=key) as client:
        thread = await client.threads.create()
        values: Any = await client.runs.wait(thread["thread_id"], "chat", input=said)
    assert values["messages"][-1]["content"].startswith("You said: hi")


def test_no_key_is_in_the_log_or_the_metrics(server):
    httpx.get(f"{server.url}/threads/1", headers={"x-api-key": KEYS[0]})
    httpx.get(f"{server.url}/threads/1", headers={"x-api-key": "a-wrong-key-of-this-test"})
    said = server.log() + server.get("/metrics").text
    for key in (*KEYS, "a-wrong-key-of-this-test"):
        assert key not in said
