"""Factories that hang or fail where a state is read: that thread's trouble, and nobody else's."""

import json

import pytest
from pydantic import SecretStr

from tests.support.apps import app_client, settings_for

GRAPH = """
import asyncio
from typing import TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph_sdk.runtime import ServerRuntime

class State(TypedDict, total=False):
    said: str

builder = StateGraph(State)
builder.add_node("say", lambda state: {"said": "this"})
builder.add_edge(START, "say")
builder.add_edge("say", END)

async def made(config: RunnableConfig, runtime: ServerRuntime):
    how = config["configurable"].get("how")
    if runtime.access_context in ("threads.read", "assistants.read"):
        if how == "hangs":
            await asyncio.sleep(3600)
        if how == "times out":
            raise TimeoutError
    return builder
"""


@pytest.fixture
async def client(database_url, tmp_path):
    (tmp_path / "slow.py").write_text(GRAPH)
    manifest = tmp_path / "langgraph.json"
    manifest.write_text(json.dumps({"graphs": {"made": "./slow.py:made"}, "dependencies": ["."]}))
    # One place for lists: one that is never given back is missed at once.
    database = {"url": SecretStr(database_url), "pool_max": 5, "lists_part": 0.2}
    requests = {"factory_timeout_seconds": 0.3}
    settings = settings_for(database_url, manifest, database=database, requests=requests)
    async with app_client(settings) as made:
        yield made


@pytest.mark.parametrize("how", ["hangs", "times out"])
async def test_a_thread_whose_factory_fails_shows_what_it_holds_and_keeps_no_place(client, how):
    ids = {}
    for one in (how, "works"):
        ids[one] = (await client.post("/threads", json={})).json()["thread_id"]
        run = {"assistant_id": "made", "input": {}, "config": {"configurable": {"how": one}}}
        answer = await client.post(f"/threads/{ids[one]}/runs/wait", json=run)
        assert answer.json() == {"said": "this"}
    for _ in range(2):
        history = await client.get(f"/threads/{ids[how]}/history")
        assert [one["values"] for one in history.json()] == [{"said": "this"}]
    state = await client.get(f"/threads/{ids[how]}/state")
    assert state.json()["values"] == {"said": "this"}
    page = await client.post("/threads/search", json={"ids": list(ids.values())})
    assert [one["values"] for one in page.json()] == [{"said": "this"}] * 2


@pytest.mark.parametrize("how", ["hangs", "times out"])
async def test_an_assistant_whose_factory_fails_is_told_so(client, how):
    config = {"configurable": {"how": how}}
    made = await client.post("/assistants", json={"graph_id": "made", "config": config})
    for look in ("schemas", "graph", "subgraphs"):
        answer = await client.get(f"/assistants/{made.json()['assistant_id']}/{look}")
        assert (answer.status_code, answer.json()["code"]) == (503, "graph_not_made")
        assert "factory_timeout_seconds" in answer.json()["detail"]
