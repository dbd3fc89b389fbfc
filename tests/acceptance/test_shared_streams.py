"""Streams by two keys: the greedy one is told to end some, the other finds places, none is lost."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.support.exposition import Exposition
from tests.support.live import live_server
from tests.support.stored_keys import store_key

pytestmark = pytest.mark.acceptance

SETTING_KEYS = ("first-key-of-this-test-5f0e3a1c", "second-key-of-this-test-9b77c1d2")
#: Of each of the two processes.
STREAMS = 20


@pytest.fixture(scope="module", params=["of the settings", "of the database", "of both"])
def keys(request, module_database):
    """Two keys. The settings know of two callers, of none, or of one."""
    first, second = SETTING_KEYS
    if request.param == "of the settings":
        return (first, second), [first, second]
    stored = store_key(module_database).text
    if request.param == "of both":
        return (first, stored), [first]
    return (store_key(module_database).text, stored), list[str]()


@pytest.fixture(scope="module")
def server(keys, module_database, tmp_path_factory):
    environment: dict[str, Any] = {
        "HEADRACE_API_KEYS": ",".join(keys[1]),
        "HEADRACE_EDGE__METRICS": "on",
        "HEADRACE_EVENTS__MAX_THREAD_STREAMS": str(STREAMS),
    }
    folder = tmp_path_factory.mktemp("streams")
    with live_server(folder, module_database, **environment) as running:
        yield running


def client(url: str, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, limits=limits, timeout=30)


async def open_streams(http: httpx.AsyncClient, count: int, stack: AsyncExitStack) -> Counter[Any]:
    """What as many new streams of a new thread are answered with; those that are open stay so."""
    made = await http.post("/threads", json={})
    path = f"/threads/{made.json()['thread_id']}/stream"
    told: Counter[Any] = Counter()
    for _ in range(count):
        response = await stack.enter_async_context(http.stream("GET", path))
        if response.status_code == 200:
            told[200] += 1
        else:
            await response.aread()
            assert response.headers["retry-after"]
            told[response.status_code, response.json()["code"]] += 1
    return told


async def held(http: httpx.AsyncClient) -> set[float]:
    found = Exposition((await http.get("/metrics")).text)
    return {
        found.value("headrace_gate_places", gate=gate, state="held")
        for gate in found.label_values("headrace_gate_places", "gate")
    }


async def test_the_other_key_finds_streams_and_all_places_come_back(server, keys):
    (first, second), _ = keys
    async with client(server.url, first) as greedy, client(server.url, second) as modest:
        async with AsyncExitStack() as stack:
            told = await open_streams(greedy, 4 * STREAMS, stack)
            # Of each process three quarters; the connections are not spread evenly.
            share = int(0.75 * STREAMS)
            assert share <= told[200] <= 2 * share
            assert told[429, "caller_share_used"] == 4 * STREAMS - told[200]
            assert (await open_streams(modest, 3, stack)) == {200: 3}
            run = {"assistant_id": "memo", "input": {"topic": "tea"}}
            assert (await greedy.post("/runs/wait", json=run)).status_code == 200

        async def hasty() -> None:
            try:
                async with asyncio.timeout(random.random() * 0.3):
                    await modest.post("/runs/stream", json=run)
            except TimeoutError:
                pass

        for _ in range(10):
            await asyncio.gather(*(hasty() for _ in range(20)))
        async with asyncio.timeout(30):
            while await held(greedy) != {0.0}:
                await asyncio.sleep(0.5)
