"""What Agent Chat UI asks of a server, in its order and with its parameters (useStream aside)."""

import httpx
import pytest
from langgraph_sdk import get_client

pytestmark = pytest.mark.acceptance

ORIGIN = {"Origin": "http://localhost:3000"}
#: As its useStream is configured.
STREAMED = {"stream_mode": ["values"], "stream_subgraphs": True, "stream_resumable": True}


@pytest.fixture
async def page(clients_server):
    async with httpx.AsyncClient(base_url=clients_server.url, headers=ORIGIN, timeout=30) as client:
        yield client


async def test_it_finds_the_server(page):
    answer = await page.get("/info")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]


async def test_a_browser_may_send_what_it_sends(page):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key,x-auth-scheme,last-event-id",
    }
    for path in ("/threads/search", "/threads", "/runs/stream"):
        answer = await page.options(path, headers=asked)
        assert answer.status_code == 200, answer.text
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert "*" in allowed or "x-auth-scheme" in allowed


async def test_it_lists_the_threads_of_its_graph(page, clients_server):
    async with get_client(url=clients_server.url) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "nested_hitl", input={"topic": "x"})
        (graph,) = await client.assistants.search(graph_id="nested_hitl")
    for metadata in ({"graph_id": "nested_hitl"}, {"assistant_id": graph["assistant_id"]}):
        answer = await page.post("/threads/search", json={"metadata": metadata, "limit": 100})
        assert thread in [one["thread_id"] for one in answer.json()]
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert "content-location" in exposed
        assert "x-pagination-total" in exposed


async def events(page: httpx.AsyncClient, path: str, body: object) -> list[str]:
    async with page.stream("POST", path, json=body) as response:
        assert response.status_code == 200, await response.aread()
        return [
            line.partition(": ")[2]
            async for line in response.aiter_lines()
            if line.startswith("event: ")
        ]


async def waiting_thread(page: httpx.AsyncClient) -> str:
    thread = (await page.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "hitl", "input": {"topic": "tea"}, **STREAMED}
    told = await events(page, f"/threads/{thread}/runs/stream", body)
    assert told == ["metadata", "values", "values", "end"]
    return str(thread)


async def test_a_decision_resumes_the_run(page):
    thread = await waiting_thread(page)
    history = (await page.post(f"/threads/{thread}/history", json={"limit": 10})).json()
    (waiting,) = history[0]["tasks"][0]["interrupts"]
    assert waiting["value"] == {"question": "approve tea?"}
    head = {key: history[0]["checkpoint"][key] for key in ("checkpoint_id", "checkpoint_ns")}
    decisions = {"decisions": [{"type": "approve"}]}
    body = {
        "assistant_id": "hitl",
        "input": {},
        "command": {"resume": decisions},
        "checkpoint": head,
        **STREAMED,
    }
    assert (await events(page, f"/threads/{thread}/runs/stream", body))[-1] == "end"
    state = (await page.get(f"/threads/{thread}/state")).json()
    assert state["values"]["answer"] == str(decisions)
    assert (await page.get(f"/threads/{thread}")).json()["status"] == "idle"


async def test_marked_as_resolved_it_ends(page):
    thread = await waiting_thread(page)
    body = {"assistant_id": "hitl", "input": {}, "command": {"goto": "__end__"}, **STREAMED}
    assert (await events(page, f"/threads/{thread}/runs/stream", body))[-1] == "end"
    assert (await page.get(f"/threads/{thread}/state")).status_code == 200
