"""Rows that somebody has written with SQL: no read and no run executes what they name."""

import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.crafted import MODULE, Canary, costly, executing

CRAFTED = {**executing(), **costly()}
#: Where not all of them are tried.
SOME = ("single argument", "model", "delta snapshot", "deep lists in types", "a copied text")


@pytest.fixture
def canary(tmp_path, monkeypatch):
    made = Canary(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield made
    sys.modules.pop(MODULE, None)


def manifest(folder: Path) -> Path:
    path = folder / "langgraph.json"
    graphs = {name: f"{GRAPHS / 'planted.py'}:{name}" for name in ("asks", "chat")}
    path.write_text(json.dumps({"graphs": graphs}))
    return path


async def waiting_thread(client: Any, graph: str) -> str:
    thread: str = (await client.post("/threads", json={})).json()["thread_id"]
    body = {
        "assistant_id": graph,
        "input": {"text": "x", "messages": [{"role": "user", "content": "x"}]},
    }
    answer = await client.post(f"/threads/{thread}/runs/wait", json=body)
    assert answer.status_code == 200
    return thread


async def read_everything(client: Any, thread: str) -> None:
    """Every read answers, and the server goes on."""
    for path in ("", "/state", "/history", "/runs", "/state?subgraphs=true"):
        answer = await client.get(f"/threads/{thread}{path}")
        assert answer.status_code == 200, answer.text
    found = await client.post("/threads/search", json={"ids": [thread], "values": {"text": "y"}})
    assert found.status_code == 200
    assert (await client.post(f"/threads/{thread}/copy")).status_code == 200
    runs = (await client.get(f"/threads/{thread}/runs")).json()
    assert (await client.get(f"/threads/{thread}/runs/{runs[0]['run_id']}/join")).status_code == 200


async def test_crafted_rows_execute_nothing_and_fail_the_run_clearly(
    database_url, tmp_path, canary
):
    settings = settings_for(database_url, manifest(tmp_path))
    async with (
        app_client(settings) as client,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as database,
    ):
        for graph, table in (
            ("asks", "checkpoint_blobs"),
            ("asks", "checkpoint_writes"),
            ("chat", "checkpoint_writes"),
        ):
            thread = await waiting_thread(client, graph)
            every = (graph, table) == ("asks", "checkpoint_blobs")
            for name in CRAFTED if every else SOME:
                stored = CRAFTED[name]
                await database.execute(
                    f"UPDATE {table} SET type = 'msgpack', blob = %s WHERE thread_id = %s",
                    (stored, thread),
                )
                if name in ("single argument", "deep lists in types"):
                    await read_everything(client, thread)
                body: dict[str, Any] = {"assistant_id": graph, "input": {"text": "y"}}
                answer = (await client.post(f"/threads/{thread}/runs/wait", json=body)).json()
                where = (graph, table, name)
                if name in executing() and "__error__" in answer:
                    assert answer["__error__"]["error"] == "TypeNotAllowed", (where, answer)
                assert table != "checkpoint_blobs" or "__error__" in answer, (where, answer)
                changed = await client.post(
                    f"/threads/{thread}/state", json={"values": {"text": "z"}}
                )
                assert changed.status_code < 500, (where, changed.text)
                assert canary.sings() == [], where


async def test_constructors_in_checkpoints_and_items_are_data(database_url, tmp_path, canary):
    """What Postgres keeps as JSON is never made again."""
    constructor = {"lc": 2, "type": "constructor", "id": [MODULE, "Kind"], "kwargs": {"x": 1}}
    secret = {"lc": 1, "type": "secret", "id": ["PATH"]}
    settings = settings_for(database_url, manifest(tmp_path))
    async with (
        app_client(settings) as client,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as database,
    ):
        thread = await waiting_thread(client, "asks")
        await database.execute(
            "UPDATE checkpoints"
            " SET checkpoint = jsonb_set(checkpoint, '{channel_values,text}', %s),"
            " metadata = metadata || %s WHERE thread_id = %s",
            (Jsonb([constructor, secret]), Jsonb({"c": constructor}), thread),
        )
        await read_everything(client, thread)
        state = (await client.get(f"/threads/{thread}/state")).json()
        assert state["values"]["text"] == [constructor, secret]
        item = {"namespace": ["a"], "key": "k", "value": {"x": "y"}}
        assert (await client.put("/store/items", json=item)).status_code == 204
        await database.execute(
            "UPDATE store SET value = %s", (Jsonb({"c": constructor, "s": secret}),)
        )
        read = await client.get("/store/items", params={"namespace": "a", "key": "k"})
        assert read.json()["value"] == {"c": constructor, "s": secret}
        assert canary.sings() == []
