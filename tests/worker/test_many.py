"""What a graph does very often reaches its readers, and leaves the process as it was."""

import asyncio
import json
import re
import time

import pytest

from headrace.observability.process import resident_bytes
from tests.support.apps import GRAPHS, app_client, settings_for

EVENTS = 20_000
TASKS = 2_000
MB = 1024 * 1024


@pytest.fixture
def places() -> int:
    """More than one claim may reserve, so that a run starts in place and loses no event."""
    return 40


@pytest.fixture
async def client(database_url, tmp_path, places):
    manifest = tmp_path / "langgraph.json"
    graphs = {name: f"{GRAPHS / 'many.py'}:{name}" for name in ("tells", "leaves")}
    manifest.write_text(json.dumps({"graphs": graphs}))
    # This run waits for no reader.
    events = {"buffer_events": 100_000, "ring_events": 100}
    settings = settings_for(
        database_url, manifest, events=events, worker={"max_concurrent_runs": places}
    )
    async with app_client(settings) as opened:
        yield opened


async def test_every_event_of_twenty_thousand_arrives_in_order(client):
    body = {"assistant_id": "tells", "input": {"count": EVENTS}, "stream_mode": "custom"}
    before = resident_bytes()
    streamed = await client.post("/runs/stream", json=body)
    told = re.findall(r"^data: (\d+)\r?$", streamed.text, re.M)
    assert told == [str(number) for number in range(EVENTS)]
    waited = await client.post("/runs/wait", json=body)
    assert waited.json()["done"] == EVENTS
    # Whoever comes when it is over finds no heap of events.
    assert resident_bytes() - before < 100 * MB


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize("places", [2])
async def test_thousands_of_tasks_that_nobody_awaits_hold_up_nobody(client):
    body = {"assistant_id": "leaves", "input": {"count": TASKS}}
    async with asyncio.timeout(10):
        waited = await client.post("/runs/wait", json=body)
    assert waited.json() == {"count": TASKS, "done": TASKS}
    began = time.monotonic()
    for _ in range(5):
        assert (await client.post("/runs/wait", json=body)).json()["done"] == TASKS
        assert (await client.get("/ok")).status_code == 200
    # There are places for two runs: tasks that live on hold none of them.
    assert time.monotonic() - began < 5
