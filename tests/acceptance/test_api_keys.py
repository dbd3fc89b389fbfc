"""A server with keys: every route but health, /ok and /info asks for one."""

from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client

from tests.support.keys import ROUTES, check_route
from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

KEYS = ("first-key-of-this-test-5f0e3a1c", "second-key-of-this-test-9b77c1d2")


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    environment: dict[str, Any] = {"HEADRACE_API_KEYS": ",".join(KEYS)}
    with live_server(folder, module_database, config=None, **environment) as running:
        yield running


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_every_route_but_the_public_ones_asks_for_a_key(server, method, route):
    check_route(server.url, method, route, key=KEYS[1])


def test_the_page_of_the_api_asks_for_the_key_and_what_it_shows_needs_it(server):
    assert httpx.get(f"{server.url}/docs").status_code == 200
    assert httpx.get(f"{server.url}/openapi.json").status_code == 401


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
    known = {"x-api-key": KEYS[0]}
    metrics = httpx.get(f"{server.url}/metrics", headers=known, timeout=5)
    assert metrics.status_code == 200
    said = server.log() + metrics.text
    for key in (*KEYS, "a-wrong-key-of-this-test"):
        assert key not in said
