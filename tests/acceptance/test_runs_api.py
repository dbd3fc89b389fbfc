"""The runs API over the wire and through langgraph-sdk, against two server processes."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import NotFoundError

pytestmark = pytest.mark.acceptance

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def client(module_server):
    async with get_client(url=module_server.url) as opened:
        yield opened


@pytest.fixture
async def http(module_server):
    async with httpx.AsyncClient(base_url=module_server.url, timeout=30) as opened:
        yield opened


async def new_thread(http) -> str:
    return str((await http.post("/threads", json={})).json()["thread_id"])


async def ended(client, thread_id: str, run_id: str) -> Any:
    async with asyncio.timeout(15):
        while (run := await client.runs.get(thread_id, run_id))["status"] in ("pending", "running"):
            await asyncio.sleep(0.05)
    return run


def events(text: str) -> list[tuple[str, str | None]]:
    """Name and id of each event."""
    found = []
    for block in text.split("\r\n\r\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
        if "event" in fields:
            found.append((fields["event"], fields.get("id")))
    return found


async def test_a_background_run_is_told_where_it_is_and_joined(client, http):
    thread_id = await new_thread(http)
    made = await http.post(
        f"/threads/{thread_id}/runs", json={"assistant_id": "agent", "input": HELLO, "new": 1}
    )
    assert made.status_code == 200
    run = made.json()
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    assert made.headers["content-location"] == path
    assert run["status"] in ("pending", "running", "success")
    assert run["multitask_strategy"] == "enqueue"
    for _ in range(2):
        joined = await http.get(f"{path}/join")
        assert joined.status_code == 200
        assert joined.headers["location"] == f"{path}/join"
        assert joined.headers["content-location"] == path
        assert joined.json()["messages"][-1]["content"] == "message 1"
    values = await client.runs.join(thread_id, run["run_id"])
    assert values == joined.json()


async def test_a_failed_run_is_joined_as_its_error(client, http):
    thread_id = await new_thread(http)
    run = await client.runs.create(thread_id, "boom", input={"topic": "x"})
    joined = await http.get(f"/threads/{thread_id}/runs/{run['run_id']}/join")
    error = {"error": "ValueError", "message": "kaboom in node"}
    assert (joined.status_code, joined.json()) == (200, {"__error__": error})


async def test_a_running_run_is_joined_from_every_process(client, http, module_server):
    thread_id = await new_thread(http)
    run = await client.runs.create(thread_id, "slow", input={"seconds": 0.2})
    path = f"/threads/{thread_id}/runs/{run['run_id']}/join"

    async def join() -> Any:
        async with httpx.AsyncClient(base_url=module_server.url, timeout=30) as own:
            return (await own.get(path)).json()

    joined = await asyncio.gather(*(join() for _ in range(8)))
    assert all(values["done"] == [0, 1, 2] for values in joined)


async def test_a_resumable_stream_is_read_on_from_each_id(client, http):
    thread_id = await new_thread(http)
    body = {
        "assistant_id": "slow",
        "input": {"seconds": 0.05},
        "stream_mode": ["values", "custom"],
        "stream_resumable": True,
    }
    whole = await http.post(f"/threads/{thread_id}/runs/stream", json=body)
    assert whole.headers["cache-control"] == "no-store"
    assert whole.headers["x-accel-buffering"] == "no"
    assert whole.headers["content-type"] == "text/event-stream; charset=utf-8"
    location = whole.headers["location"]
    assert location == whole.headers["content-location"] + "/stream"
    seen = events(whole.text)
    assert [name for name, _ in seen[:3]] == ["metadata", "values", "custom"]
    stored = [one for one in seen if one[1] is not None]
    for after in (-1, *(int(number or 0) for _, number in stored)):
        wanted = [one for one in stored if int(one[1] or 0) > after]
        for how in (
            {"headers": {"Last-Event-ID": str(after)}},
            {"params": {"last_event_id": after}},
        ):
            again = await http.get(location, **how)
            assert [one for one in events(again.text) if one[1] is not None] == wanted, how
    assert events((await http.get(location)).text) == []
    by_id = location.split(thread_id)[1]
    replayed = await http.get(by_id, headers={"Last-Event-ID": "-1"})
    assert [one for one in events(replayed.text) if one[1] is not None] == stored
    for query in (
        [("stream_mode", "custom")],
        [("stream_mode", '["custom"]')],
        [("stream_mode", "custom,updates")],
    ):
        only = await http.get(location, params=query, headers={"Last-Event-ID": "-1"})
        assert {name for name, number in events(only.text) if number} == {"custom"}


async def test_what_cannot_be_read_is_refused_with_a_reason(http):
    thread_id = await new_thread(http)
    made = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "agent"})
    path = made.headers["content-location"]
    for url, status, words in (
        (f"{path}/stream?stream_mode=weird", 422, "stream_mode"),
        (f"/threads/{thread_id}/runs?select=weird", 422, "select"),
        (f"/threads/{thread_id}/runs/nope/join", 422, "UUID"),
        (f"/threads/{thread_id}/runs/{uuid4()}/join", 404, "not found"),
        (f"/threads/{thread_id}/runs/{uuid4()}/stream", 404, "not found"),
        (f"/threads/{uuid4()}/runs/{path.rsplit('/', 1)[1]}/join", 404, "not found"),
    ):
        answer = await http.get(url)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), url
    for body, words in (
        ({"assistant_id": "agent", "after_seconds": -1}, "after_seconds"),
        ({"assistant_id": "agent", "multitask_strategy": "x"}, "multitask_strategy"),
    ):
        answer = await http.post(f"/threads/{thread_id}/runs", json=body)
        assert (answer.status_code, words in answer.json()["detail"]) == (422, True)


async def test_lists_show_what_is_selected(client, http):
    thread_id = await new_thread(http)
    await client.runs.wait(thread_id, "agent", input=HELLO)
    (run,) = await client.runs.list(thread_id, select=["run_id", "status"])
    assert set(run) == {"run_id", "status"}
    for query in ('select=["status"]', "select=status"):
        assert (await http.get(f"/threads/{thread_id}/runs?{query}")).json() == [
            {"status": "success"}
        ]


@pytest.mark.parametrize("wait", [False, True])
async def test_a_run_is_cancelled_from_any_process(client, http, wait):
    thread_id = await new_thread(http)
    run = await client.runs.create(thread_id, "slow", input={"seconds": 5})
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    answer = await http.post(f"{path}/cancel", params={"wait": int(wait), "action": "interrupt"})
    if wait:
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["location"] == f"{path}/join"
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    else:
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await ended(client, thread_id, run["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    assert (await http.post(f"{path}/cancel")).status_code == 404


async def test_a_run_is_rolled_back_without_a_trace(client, http):
    thread_id = await new_thread(http)
    await client.runs.wait(thread_id, "slow", input={"seconds": 0})
    before = await client.threads.get_state(thread_id)
    run = await client.runs.create(thread_id, "slow", input={"seconds": 1})
    async with asyncio.timeout(15):
        # It has left something that is to go.
        while (await client.threads.get_state(thread_id))["checkpoint_id"] == before[
            "checkpoint_id"
        ]:
            await asyncio.sleep(0.05)
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])
    after = await client.threads.get_state(thread_id)
    assert after["checkpoint_id"] == before["checkpoint_id"]


async def test_many_runs_are_cancelled_at_once(client, http):
    thread_id = await new_thread(http)
    runs = [await client.runs.create(thread_id, "slow", input={"seconds": 5}) for _ in range(3)]
    run_ids = [run["run_id"] for run in runs]
    body = {"thread_id": thread_id, "run_ids": run_ids}
    assert (await http.post("/runs/cancel", json=body)).status_code == 204
    for run_id in run_ids:
        assert (await ended(client, thread_id, run_id))["status"] == "interrupted"
    assert (await http.post("/runs/cancel", json=body)).status_code == 404
    assert (await http.post("/runs/cancel", json={})).status_code == 422


async def test_runs_are_deleted_also_while_they_run(client, http):
    thread_id = await new_thread(http)
    await client.runs.wait(thread_id, "agent", input=HELLO)
    (done,) = await client.runs.list(thread_id)
    running = await client.runs.create(thread_id, "slow", input={"seconds": 5})
    for run in (done, running):
        await client.runs.delete(thread_id, run["run_id"])
        with pytest.raises(NotFoundError):
            await client.runs.delete(thread_id, run["run_id"])
    assert await client.runs.list(thread_id) == []
    assert (await client.threads.get(thread_id))["status"] != "busy"


async def test_runs_of_a_thread_wait_for_each_other_in_order(client, http):
    thread_id = await new_thread(http)
    runs = [await client.runs.create(thread_id, "slow", input={"seconds": 0.02}) for _ in range(4)]
    values = await client.runs.wait(thread_id, "slow", input={"seconds": 0})
    assert len(values["done"]) == 15
    listed = await client.runs.list(thread_id)
    assert [run["status"] for run in listed] == ["success"] * 5
    assert {run["run_id"] for run in runs} < {run["run_id"] for run in listed}


@pytest.mark.parametrize("how", ["runs", "runs/wait", "runs/stream"])
async def test_every_route_rejects_interrupts_and_rolls_back(client, http, how):
    for strategy, first_status in (("reject", "running"), ("interrupt", "interrupted")):
        thread_id = await new_thread(http)
        first = await client.runs.create(thread_id, "slow", input={"seconds": 2})
        body = {
            "assistant_id": "slow",
            "input": {"seconds": 0},
            "multitask_strategy": strategy,
        }
        answer = await http.post(f"/threads/{thread_id}/{how}", json=body)
        assert answer.status_code == (409 if strategy == "reject" else 200)
        if strategy == "interrupt":
            run = await ended(client, thread_id, first["run_id"])
            assert run["status"] == first_status
        await client.runs.cancel_many(thread_id=thread_id, run_ids=[first["run_id"]]) if (
            strategy == "reject"
        ) else None
    thread_id = await new_thread(http)
    first = await client.runs.create(thread_id, "slow", input={"seconds": 2})
    body["multitask_strategy"] = "rollback"
    answer = await http.post(f"/threads/{thread_id}/{how}", json=body)
    assert answer.status_code == 200
    async with asyncio.timeout(10):
        while len(listed := await client.runs.list(thread_id)) != 1:
            await asyncio.sleep(0.05)
    assert listed[0]["run_id"] != first["run_id"]


async def test_a_run_may_be_put_off(client, http):
    thread_id = await new_thread(http)
    run = await client.runs.create(thread_id, "agent", input=HELLO, after_seconds=1)
    assert run["status"] == "pending"
    assert (await client.threads.get(thread_id))["status"] == "busy"
    values = await client.runs.join(thread_id, run["run_id"])
    assert values["messages"][-1]["content"] == "message 1"


async def test_a_batch_makes_runs_without_threads(client):
    runs = await client.runs.create_batch(
        [{"assistant_id": "agent", "input": HELLO}, {"assistant_id": "slow", "input": {}}]
    )
    assert len({run["thread_id"] for run in runs}) == 2


async def test_a_stateless_background_run_is_joined_by_its_id(http):
    made = await http.post("/runs", json={"assistant_id": "agent", "input": HELLO})
    run_id = made.json()["run_id"]
    assert made.headers["content-location"] == f"/runs/{run_id}"
    joined = await http.get(f"/runs/{run_id}/join")
    assert joined.json()["messages"][-1]["content"] == "message 1"


async def test_events_of_langchain_are_streamed_beside_others(client, http):
    thread_id = await new_thread(http)
    got = [
        part
        async for part in client.runs.stream(
            thread_id, "tokens", input=HELLO, stream_mode=["events", "values"]
        )
    ]
    kinds = [part.data["event"] for part in got if part.event == "events"]
    assert kinds[0] == "on_chain_start"
    assert "on_chat_model_stream" in kinds
    assert [part.event for part in got if part.event != "events"] == [
        "metadata",
        "values",
        "values",
        "end",
    ]


async def test_the_head_checkpoint_is_no_step_back(client, http):
    thread_id = await new_thread(http)
    for expected in ("message 1", "message 3"):
        state = await client.threads.get_state(thread_id)
        checkpoint = {"checkpoint_id": state["checkpoint_id"], "checkpoint_ns": ""}
        values = await client.runs.wait(
            thread_id,
            "agent",
            input=HELLO,
            checkpoint=checkpoint if state["checkpoint_id"] else None,
        )
        assert values["messages"][-1]["content"] == expected
    await client.runs.wait(thread_id, "hitl", input={"topic": "tea"}, if_not_exists="create")


async def test_a_resume_at_the_head_checkpoint_answers_the_interrupt(client, http):
    thread_id = await new_thread(http)
    await client.runs.wait(thread_id, "hitl", input={"topic": "tea"})
    state = await client.threads.get_state(thread_id)
    values = await client.runs.wait(
        thread_id,
        "hitl",
        input={},
        command={"resume": "yes"},
        checkpoint={"checkpoint_id": state["checkpoint_id"], "checkpoint_ns": ""},
    )
    assert values["answer"] == "yes"


def test_the_sync_client_does_the_same(module_server):
    with get_sync_client(url=module_server.url) as client:
        _use(client)


def _use(client: SyncLangGraphClient) -> None:
    thread_id = client.threads.create()["thread_id"]
    run = client.runs.create(thread_id, "agent", input=HELLO)
    assert client.runs.join(thread_id, run["run_id"])["messages"][-1]["content"] == "message 1"
    assert client.runs.get(thread_id, run["run_id"])["status"] == "success"
    parts = [
        part.event
        for part in client.runs.stream(
            thread_id, "agent", input=HELLO, stream_resumable=True, stream_mode="values"
        )
    ]
    assert parts == ["metadata", "values", "values", "end"]
    runs = client.runs.list(thread_id)
    assert len(runs) == 2
    again = [
        part.event
        for part in client.runs.join_stream(thread_id, runs[0]["run_id"], last_event_id="-1")
    ]
    assert again[:3] == ["metadata", "values", "values"]
    client.runs.delete(thread_id, runs[0]["run_id"])
