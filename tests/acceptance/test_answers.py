"""Answers, deadlines and reasons of cancels, as the Python SDK and plain HTTP send them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError, UnprocessableEntityError

from tests.support.exposition import Exposition
from tests.support.live import live_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

CONFIG = Path(__file__).parents[1] / "clients" / "langgraph.json"
UNKNOWN = "0" * 32
NOTE = "wrong customer, see ticket 7"


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    """Two processes that check each resume."""
    with live_server(
        tmp_path_factory.mktemp("answers"),
        module_database,
        config=CONFIG,
        HEADRACE_REQUESTS__STRICT_RESUME="true",
        HEADRACE_REQUESTS__MAX_DEADLINE_SECONDS="100",
    ) as running:
        yield running


@pytest.fixture
async def client(server):
    async with get_client(url=server.url) as opened:
        yield opened


async def waiting(client) -> tuple[str, str]:
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "hitl", input={"topic": "tea"})
    (interrupt,) = (await client.threads.get_state(thread["thread_id"]))["interrupts"]
    return thread["thread_id"], interrupt["id"]


async def timeline(server, thread_id, run_id) -> Any:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get(f"/threads/{thread_id}/runs/{run_id}/timeline")
    return answer.json()


async def slow_run(client, **more) -> tuple[str, str]:
    thread = await client.threads.create()
    body = {"input": {"secs": 20.0, "n": []}, **more}
    run = await client.runs.create(thread["thread_id"], "slow", **body)
    return thread["thread_id"], run["run_id"]


async def test_the_sdk_gets_the_ids_that_wait(client):
    thread_id, waits = await waiting(client)
    with pytest.raises(ConflictError, match=f"{waits} \\(node ask\\)"):
        await client.runs.create(
            thread_id, "hitl", command={"resume": {UNKNOWN: "x"}}, strict_resume=True
        )
    # The setting makes it the default. The SDK's ``wait`` raises the error of httpx.
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await client.runs.wait(thread_id, "hitl", command={"resume": {UNKNOWN: "x"}})
    answer = refused.value.response
    assert (answer.status_code, answer.json()["code"]) == (409, "resume_refused")
    assert waits in answer.json()["detail"]
    with pytest.raises(ConflictError):
        async for _ in client.runs.stream(
            thread_id, "hitl", command={"resume": {UNKNOWN: "x"}}, strict_resume=True
        ):
            pass
    assert len(await client.runs.list(thread_id)) == 1
    await client.runs.wait(
        thread_id, "hitl", command={"resume": {waits: "yes"}}, strict_resume=True
    )
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_a_deadline_from_the_query_and_from_the_body(client, server):
    thread_id, run_id = await slow_run(client, params={"deadline_seconds": 0.5})
    run = await client.runs.get(thread_id, run_id)
    assert run["kwargs"]["deadline_seconds"] == 0.5
    with pytest.raises(Exception, match="DeadlineExceeded"):
        await client.runs.wait(
            None, "slow", input={"secs": 20.0, "n": []}, params={"deadline_seconds": 0.5}
        )

    async def ended() -> bool:
        return bool((await client.runs.get(thread_id, run_id))["status"] == "timeout")

    await eventually(ended)
    error = (await timeline(server, thread_id, run_id))["run"]["error"]
    assert (error["error"], error["cause"]) == ("DeadlineExceeded", "deadline")
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        body = {"assistant_id": "slow", "input": {"secs": 20.0, "n": []}, "deadline_seconds": 0.5}
        streamed = await http.post("/runs/stream", json=body)
        assert "event: error" in streamed.text
        assert "DeadlineExceeded" in streamed.text
        for value in (0, -1, "soon", 101):
            answer = await http.post("/runs/wait", json={**body, "deadline_seconds": value})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert "deadline_seconds" in answer.json()["detail"]
        differing = await http.post("/runs/wait", json=body, params={"deadline_seconds": 2})
        assert differing.status_code == 422
        assert "differ" in differing.json()["detail"]
    with pytest.raises(UnprocessableEntityError, match="max_deadline_seconds"):
        await slow_run(client, params={"deadline_seconds": 101})


async def test_a_deadline_holds_in_the_queue_too(client):
    """The run before it has the thread for longer than that."""
    thread_id, before = await slow_run(client)
    with pytest.raises(Exception, match="DeadlineExceeded"):
        await client.runs.wait(
            thread_id, "slow", input={"secs": 0.0, "n": []}, params={"deadline_seconds": 0.5}
        )
    assert (await client.runs.get(thread_id, before))["status"] == "running"
    assert (await client.threads.get(thread_id))["status"] == "busy"
    await client.runs.cancel(thread_id, before, wait=True)


async def test_the_reason_of_a_cancel_is_in_row_stream_log_and_metrics(client, server, database):
    thread_id, run_id = await slow_run(client)

    async def follow() -> list:
        return [part async for part in client.runs.join_stream(thread_id, run_id)]

    followers = [asyncio.create_task(follow()) for _ in range(4)]
    await asyncio.sleep(0.5)
    await client.runs.cancel(thread_id, run_id, wait=True, params={"reason": NOTE})
    for parts in await asyncio.gather(*followers):
        assert parts[-1].event == "end"
        assert parts[-1].data == {"run_id": run_id, "status": "interrupted", "reason": NOTE}
    told = await timeline(server, thread_id, run_id)
    (asked,) = [one for one in told["entries"] if one["kind"] == "cancel_asked"]
    assert (asked["reason"], asked["note"]) == ("client", NOTE)
    assert (await client.threads.get(thread_id))["error"]["reason"] == NOTE
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    own = {line["event"]: line for line in lines if line.get("run_id") == run_id}
    assert own["run_stop_asked"]["note"] == NOTE
    ended = own["run_ended"]
    assert (ended["cancel_reason"], ended["cancel_note"]) == ("client", NOTE)
    metrics = server.get("/metrics").text
    assert NOTE not in metrics
    assert Exposition(metrics).count("headrace_run_cancels_total", reason="client") >= 1


async def test_the_reason_of_a_waiting_run_and_of_several(client, server):
    thread_id, before = await slow_run(client)
    behind = await client.runs.create(thread_id, "slow", input={"secs": 0.0, "n": []})
    await client.runs.cancel_many(
        thread_id=thread_id, run_ids=[before, behind["run_id"]], params={"reason": NOTE}
    )
    for run_id in (before, behind["run_id"]):
        await client.runs.join(thread_id, run_id)
        told = await timeline(server, thread_id, run_id)
        assert told["run"]["status"] == "interrupted"
        assert [one["note"] for one in told["entries"] if one["kind"] == "cancel_asked"] == [NOTE]


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "bell\a", "\u2028"])
async def test_a_reason_is_one_printable_line(client, reason):
    thread_id, run_id = await slow_run(client)
    with pytest.raises(UnprocessableEntityError, match="reason"):
        await client.runs.cancel(thread_id, run_id, params={"reason": reason})
    with pytest.raises(UnprocessableEntityError, match="reason"):
        await client.runs.cancel_many(status="all", params={"reason": reason})
    await client.runs.cancel(thread_id, run_id, wait=True, params={"reason": ""})
    error = (await client.threads.get(thread_id))["error"]
    assert error == {"error": "UserInterrupt", "message": "The run was cancelled."}
