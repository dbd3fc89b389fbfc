"""One run, told: what its timeline says of waits, steps, interrupts, stops and deletions."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from headrace.ids import uuid7
from tests.support.apps import GRAPHS, app_client, settings_for


@pytest.fixture
def settings(database_url):
    return settings_for(database_url, GRAPHS / "langgraph.json")


@pytest.fixture
async def client(settings) -> AsyncIterator[httpx.AsyncClient]:
    async with app_client(settings) as opened:
        yield opened


async def new_thread(client: httpx.AsyncClient) -> str:
    answer = await client.post("/threads", json={})
    return str(answer.json()["thread_id"])


async def run(client: httpx.AsyncClient, thread_id: str, **body: Any) -> str:
    """The id of a run that has ended."""
    made = await client.post(f"/threads/{thread_id}/runs", json=body)
    assert made.status_code == 200, made.text
    run_id = str(made.json()["run_id"])
    await client.get(f"/threads/{thread_id}/runs/{run_id}/join")
    return run_id


async def timeline(client: httpx.AsyncClient, thread_id: str, run_id: str, **query: Any) -> Any:
    answer = await client.get(f"/threads/{thread_id}/runs/{run_id}/timeline", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def kinds(told: Any) -> list[str]:
    return [entry["kind"] for entry in told["entries"]]


async def test_x(client):
    t = await new_thread(client)
    a = await run(client, t, assistant_id="hitl", input={"topic": "x"})
    b = await run(client, t, assistant_id="hitl", command={"resume": "yes"})
    print(json.dumps(await timeline(client, t, a), indent=1))
    print(json.dumps(await timeline(client, t, b), indent=1))
    assert 0
