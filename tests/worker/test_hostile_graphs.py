"""Whatever user code raises: the run ends, its thread is free, its stream ends, no process dies."""

import asyncio
import json

import psycopg
import pytest

from tests.support.apps import GRAPHS, app_client, settings_for

HOSTILE = GRAPHS / "hostile.json"

#: How the node fails, and what the run says then.
ENDS = [
    ("hostile", "no_words", "NoWords", "<NoWords>"),
    ("hostile", "no_text", "NoText", "NoText('words')"),
    ("hostile", "surrogate", "ValueError", "a\ufffdb\ufffd"),
    ("hostile", "group", "ExceptionGroup", "ConnectionRefusedError: nobody listens"),
    ("hostile", "exit", "SystemExit", "bye"),
    ("hostile", "exit_3", "SystemExit", "3"),
    ("hostile", "exit_4", "SystemExit", "4"),
    ("hostile", "interrupt", "KeyboardInterrupt", "ctrl"),
    ("hostile", "generator_exit", "GeneratorExit", "gone"),
    ("hostile", "own", "Own", "mine"),
    ("hostile", "cancelled", None, None),
    ("hostile", "in_a_task", "SystemExit", "from a task"),
    ("hostile", "in_a_group", "BaseExceptionGroup", "SystemExit: from a group"),
    ("hostile", "cancels_all", "CancelledError", None),
    ("hostile", "edge_", "KeyError", "'edge_'"),
    ("in_thread", "exit", "SystemExit", "bye"),
    ("in_thread", "interrupt", "KeyboardInterrupt", "ctrl"),
    ("in_thread", "no_words", "NoWords", "<NoWords>"),
    ("in_thread", "edge", "SystemExit", "from an edge"),
    ("made", "exit", "SystemExit", "from a factory"),
    ("entered", "left", "KeyError", "'left'"),
]


@pytest.fixture
async def client(database_url):
    async with app_client(settings_for(database_url, HOSTILE)) as client:
        yield client


def body(graph, how, **more):
    return {
        "assistant_id": graph,
        "input": {"how": how},
        "config": {"configurable": {"how": how}},
        **more,
    }


def events(text):
    """Names and data of a stream."""
    frames = [frame.splitlines() for frame in text.replace("\r\n", "\n").split("\n\n") if frame]
    return [
        (frame[0].removeprefix("event: "), json.loads(frame[1].removeprefix("data: ")))
        for frame in frames
        if frame[0].startswith("event: ")
    ]


async def test_a_run_ends_whatever_its_graph_raises(client):
    found = []
    for graph, how, *_ in ENDS:
        async with asyncio.timeout(20):
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            url = f"/threads/{thread}"
            streamed = await client.post(f"{url}/runs/stream", json=body(graph, how))
            (run,) = (await client.get(f"{url}/runs")).json()
            row = (await client.get(url)).json()
            waited = await client.post("/runs/wait", json=body(graph, how))
            state = await client.get(f"{url}/state")
        error = events(streamed.text)[-1]
        assert error[0] == "error", (how, streamed.text)
        assert row["error"] == error[1], how
        assert (run["status"], row["status"]) == ("error", "error"), how
        assert state.status_code == 200, (how, state.text)
        found.append((graph, how, error[1]["error"], error[1]["message"]))
        assert waited.json()["__error__"]["error"] == error[1]["error"], how
    # None: LangGraph's own words, which its releases choose.
    for (_, how, *told), (*_, name, words) in zip(found, ENDS, strict=True):
        assert told == [name or told[0], words or told[1]], how


async def test_twenty_megabytes_of_words_are_cut_everywhere(client, database_url):
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    async with asyncio.timeout(30):
        waited = await client.post(f"/threads/{thread}/runs/wait", json=body("hostile", "long"))
    assert "cut from 20000000 characters" in waited.json()["__error__"]["message"]
    state = (await client.get(f"/threads/{thread}/state")).text
    assert "cut from" in state
    for text in (waited.text, state, (await client.post("/threads/search", json={})).text):
        assert len(text) < 100_000
    with psycopg.connect(database_url) as database:
        sizes = database.execute("""
            SELECT max(octet_length(runs.error::text)), max(octet_length(threads.error::text)),
              (SELECT max(octet_length(blob)) FROM checkpoint_writes)
            FROM runs JOIN threads USING (thread_id)""").fetchone()
    assert sizes is not None
    assert all(size < 40_000 for size in sizes)


async def test_what_a_node_leaves_behind_cannot_end_the_process(client):
    waited = await client.post("/runs/wait", json=body("hostile", "left_alone"))
    assert waited.json() == {"how": "left_alone", "done": "async"}


async def test_an_exit_in_a_state_update_is_refused(client):
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    await client.post(f"/threads/{thread}/runs/wait", json=body("in_thread", "nothing"))
    update = {"values": {"how": "edge"}, "as_node": "fail"}
    refused = await client.post(f"/threads/{thread}/state", json=update)
    assert refused.status_code == 422
    assert "SystemExit: from an edge" in refused.json()["detail"]
    assert (await client.get(f"/threads/{thread}/state")).json()["values"]["how"] == "nothing"
