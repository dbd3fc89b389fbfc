"""Commands and events over raw HTTP, against two server processes."""

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client

pytestmark = pytest.mark.acceptance

QUICK: dict[str, Any] = {"seconds": 0.0}

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


@pytest.fixture
async def http(forms_server):
    async with httpx.AsyncClient(base_url=forms_server.url, timeout=30) as opened:
        yield opened


async def command(http, thread_id: str, method: str, /, **params: Any) -> dict[str, Any]:
    body = {"id": 1, "method": method, "params": params}
    answer = await http.post(f"/threads/{thread_id}/commands", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["id"] == 1
    return told


async def start(http, thread_id: str, assistant_id: str = "slow", given: Any = QUICK) -> str:
    told = await command(http, thread_id, "run.start", assistant_id=assistant_id, input=given)
    assert told["type"] == "success", told
    run_id: str = told["result"]["run_id"]
    return run_id


@asynccontextmanager
async def stream(http, thread_id: str, **body: Any):
    """The events of an open stream, one by one."""
    body = {"channels": ["lifecycle", "values"], **body}
    path = f"/threads/{thread_id}/stream/events"
    async with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield _events(response)


async def _events(response):
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            event = json.loads(fields["data"])
            assert (fields["event"], fields["id"]) == (event["method"], str(event["seq"]))
            yield event
            fields = {}


async def until(events, status: str = "completed") -> list[Any]:
    found = []
    async with asyncio.timeout(20):
        async for event in events:
            found.append(event)
            data = event["params"]["data"]
            if event["method"] == "lifecycle" and data["event"] == status:
                return found
    raise EOFError


def thread_id() -> str:
    return str(uuid4())


async def test_the_first_run_of_a_thread_is_numbered_from_one(http):
    thread = thread_id()
    await start(http, thread)
    async with stream(http, thread) as events:
        told = await until(events)
    assert [event["method"] for event in told] == ["lifecycle", *["values"] * 4, "lifecycle"]
    assert told[0]["params"]["data"] == {"event": "running", "graph_name": "slow"}
    assert told[0]["seq"] == 1


async def test_a_stream_may_be_opened_before_there_is_a_thread(http):
    thread = thread_id()
    async with stream(http, thread) as events:
        await start(http, thread)
        assert len(await until(events)) == 6
        await start(http, thread)
        assert len(await until(events)) == 6


async def test_a_stream_begins_anywhere_and_misses_nothing(http):
    thread = thread_id()
    await start(http, thread)
    async with stream(http, thread) as events:
        first = await until(events)
        await start(http, thread)
        second = await until(events)
    whole = [*first, *second]
    numbers = [event["seq"] for event in whole]
    assert numbers == sorted(set(numbers))
    for seen in (0, 1, 4, 5, 6, 9):
        since = numbers[seen - 1] if seen else 0
        async with stream(http, thread, since=since) as events:
            rest = await until(events)
            if seen < len(first):
                rest += await until(events)
        assert [event["event_id"] for event in rest] == [one["event_id"] for one in whole[seen:]]
        assert [event["seq"] for event in rest] == numbers[seen:]
    # Without a number, only the last run is told again.
    async with stream(http, thread) as events:
        assert [event["seq"] for event in await until(events)] == numbers[6:]


async def test_the_last_event_id_is_a_number_too(http):
    thread = thread_id()
    await start(http, thread)
    async with stream(http, thread) as events:
        told = await until(events)
    http.headers["Last-Event-ID"] = str(told[3]["seq"])
    async with stream(http, thread) as events:
        assert [one["seq"] for one in await until(events)] == [one["seq"] for one in told[4:]]


async def test_a_run_that_goes_on_is_told_from_its_beginning(http):
    thread = thread_id()
    await start(http, thread, given={"seconds": 1.0})
    async with stream(http, thread) as one, stream(http, thread) as other:
        assert [event["seq"] for event in await until(one)] == [
            event["seq"] for event in await until(other)
        ]


async def test_filters_choose_the_events(http):
    thread = thread_id()
    await start(http, thread, "nested", {"messages": [{"role": "user", "content": "hi"}]})
    async with stream(http, thread, channels=["lifecycle", "values", "tasks"]) as events:
        whole = await until(events)
        deep = {tuple(one["params"]["namespace"]) for one in whole} - {()}
        assert deep
    of_root = {"channels": ["lifecycle", "values"], "namespaces": [[]], "depth": 0}
    async with stream(http, thread, **of_root) as events:
        assert all(not one["params"]["namespace"] for one in await until(events))
    async with stream(http, thread, channels=["tasks", "lifecycle"], depth=0) as events:
        assert deep & {tuple(one["params"]["namespace"]) for one in await until(events)}
    (child,) = {one[:1] for one in deep}
    chosen = {"channels": ["lifecycle"], "namespaces": [[child[0].partition(":")[0]]]}
    async with stream(http, thread, **chosen) as events:
        told = await until(events)
        assert {tuple(one["params"]["namespace"])[:1] for one in told} == {child}


async def test_an_interrupt_is_told_when_it_may_be_answered(http, client):
    thread = thread_id()
    async with stream(http, thread, channels=["lifecycle", "input"]) as events:
        await start(http, thread, "hitl", {"topic": "v3"})
        *_, asked, waits = await until(events, "interrupted")
        assert asked["method"] == "input.requested"
        interrupt_id = asked["params"]["data"]["interrupt_id"]
        state = await client.threads.get_state(thread)
        assert [one["id"] for one in state["interrupts"]] == [interrupt_id]
        assert asked["params"]["data"]["payload"] == state["interrupts"][0]["value"]
        answer = {"namespace": [], "interrupt_id": interrupt_id, "response": "ok"}
        told = await command(http, thread, "input.respond", **answer)
        assert told["type"] == "success"
        begun, answered, done = await until(events)
        assert begun["params"]["data"]["event"] == "running"
        assert answered["method"] == "input.answered"
        assert answered["params"]["data"] == {"interrupt_ids": [interrupt_id]}
        again = await command(http, thread, "input.respond", **answer)
        assert again["error"] == "no_such_interrupt"
    # One that comes later and has seen the question gets the rest, and not the question.
    async with stream(http, thread, since=waits["seq"], channels=["lifecycle", "input"]) as events:
        assert [one["seq"] for one in await until(events)] == [
            begun["seq"],
            answered["seq"],
            done["seq"],
        ]


async def test_the_run_of_an_answer_takes_the_parameters_of_a_run(http, client):
    thread = thread_id()
    async with stream(http, thread, channels=["lifecycle", "input"]) as events:
        await start(http, thread, "hitl", {"topic": "v3"})
        *_, asked, _ = await until(events, "interrupted")
    answer = {"interrupt_id": asked["params"]["data"]["interrupt_id"], "response": "ok"}
    for wrong in (
        {"deadline_seconds": -5},
        {"multitask_strategy": "nope"},
        {"multitaskStrategy": "nope"},
        {"durability": "never"},
        {"webhook": "http://10.0.0.1/"},
        {"feedback_keys": ["x"]},
        {"assistant_id": "missing"},
    ):
        told = await command(http, thread, "input.respond", **answer, **wrong)
        assert (told["type"], told["error"]) == ("error", "invalid_argument"), wrong
    right = {"deadline_seconds": 50, "durability": "sync", "metadata": {"a": 1}, "context": None}
    told = await command(http, thread, "input.respond", **answer, **right)
    run = await client.runs.get(thread, told["result"]["run_id"])
    assert run["kwargs"]["deadline_seconds"] == 50
    assert run["kwargs"]["durability"] == "sync"
    assert run["metadata"]["a"] == 1


async def test_the_query_may_name_the_deadline_of_a_run(http, client):
    thread = thread_id()
    params: dict[str, Any] = {"assistant_id": "slow", "input": {"seconds": 20.0}}
    body = {"id": 1, "method": "run.start", "params": params}
    path = f"/threads/{thread}/commands"
    told = (await http.post(path, json=body, params={"deadline_seconds": 0.3})).json()
    run_id = told["result"]["run_id"]
    await client.runs.join(thread, run_id)
    assert (await client.runs.get(thread, run_id))["status"] == "timeout"
    params["deadline_seconds"] = 5
    differs = await http.post(path, json=body, params={"deadline_seconds": 0.3})
    assert (differs.status_code, "body and query differ" in differs.text) == (400, True)
    assert (await http.post(path, json=body, params={"deadline_seconds": -1})).status_code == 422
    tree = {"id": 1, "method": "agent.getTree"}
    refused = await http.post(path, json=tree, params={"deadline_seconds": 1})
    assert (refused.status_code, "no other method" in refused.text) == (400, True)


async def test_an_input_answers_a_thread_that_waits(http, client):
    thread = thread_id()
    async with stream(http, thread) as events:
        await start(http, thread, "hitl", {"topic": "v3"})
        await until(events, "interrupted")
        run_id = await start(http, thread, "hitl", "ok")
        await until(events)
    run = await client.runs.get(thread, run_id)
    assert run["kwargs"]["command"] == {"resume": "ok"}
    assert (await client.threads.get_state(thread))["next"] == []


async def test_a_failed_run_says_why(http):
    thread = thread_id()
    await start(http, thread, "boom", {})
    async with stream(http, thread) as events:
        *_, failed = await until(events, "failed")
    assert failed["params"]["data"]["error"].startswith("ValueError: ")


async def test_a_cancelled_run_is_interrupted(http, client):
    thread = thread_id()
    run_id = await start(http, thread, given={"seconds": 30})
    async with stream(http, thread) as events:
        await client.runs.cancel(thread, run_id)
        assert (await until(events, "interrupted"))[-1]["seq"]


async def test_the_tree_of_a_run(http, client):
    thread = thread_id()
    run_id = await start(http, thread, given={"seconds": 30})
    told = await command(http, thread, "agent.getTree", run_id=run_id)
    assert told["result"]["tree"] == {
        "namespace": [],
        "status": "running",
        "graph_name": "slow",
        "children": [],
    }
    assert (await command(http, thread, "agent.getTree", run_id="x"))["error"] == "no_such_run"
    await client.runs.cancel(thread, run_id, wait=True)
    assert (await command(http, thread, "agent.getTree"))["error"] == "no_such_run"


async def test_a_run_of_another_route_is_told_too(http, client):
    thread = (await client.threads.create())["thread_id"]
    async with stream(http, thread) as events:
        await client.runs.wait(thread, "slow", input=QUICK)
        methods = [event["method"] for event in await until(events)]
    assert methods == ["lifecycle", *["values"] * 4, "lifecycle"]


async def test_a_run_of_the_protocol_is_one_of_the_thread(http, client):
    thread = thread_id()
    run_id = await start(http, thread)
    assert (await client.runs.join(thread, run_id))["done"] == [0, 1, 2]
    names = [
        part.event async for part in client.runs.join_stream(thread, run_id, last_event_id="-1")
    ]
    assert names[0] == "metadata"
    assert {name for name in names[1:] if not name.startswith("v3/")} == {"end"}


async def test_a_command_with_a_key_is_carried_out_once(http):
    thread = thread_id()
    http.headers["Idempotency-Key"] = str(uuid4())
    assert await start(http, thread) == await start(http, thread)


@pytest.mark.parametrize(
    ("body", "command_id", "message"),
    [
        ({"method": "run.start"}, None, "Protocol commands must include an integer id"),
        ({"id": 1}, 1, "Protocol commands must include an integer id"),
        ({"id": True, "method": "run.start"}, None, "Protocol commands must include an integer id"),
        ([], None, "Protocol commands must include an integer id"),
        (None, None, "Protocol commands must include an integer id"),
        ({"id": 1, "method": "run.start", "params": []}, 1, "params: send an object"),
    ],
)
async def test_what_is_no_command_is_a_bad_request(http, body, command_id, message):
    answer = await http.post(
        f"/threads/{thread_id()}/commands", content=json.dumps(body), headers=JSON
    )
    told = answer.json()
    assert answer.status_code == 400
    assert (told["type"], told["id"], told["error"]) == ("error", command_id, "invalid_argument")
    assert message in told["message"]


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("nope", {}, "unknown_command", "Unknown protocol command: nope. There are run.start"),
        ("state.get", {}, "not_supported", "read GET /threads/{thread_id}/state"),
        ("subscription.subscribe", {}, "not_supported", "/stream/events"),
        ("run.start", {}, "invalid_argument", "run.start requires an assistant_id"),
        ("run.start", {"assistant_id": "missing"}, "invalid_argument", "missing"),
        (
            "run.start",
            {"assistant_id": "slow", "stream_mode": "values"},
            "invalid_argument",
            "stream_mode: the protocol decides this",
        ),
        (
            "run.start",
            {"assistant_id": "slow", "langsmith_tracer": {"project_name": "x"}},
            "invalid_argument",
            "langsmith_tracer",
        ),
        ("run.start", {"assistant_id": "slow", "config": 1}, "invalid_argument", "config"),
        (
            "run.start",
            {"assistant_id": "slow", "config": {"configurable": {"checkpoint_id": "x"}}},
            "invalid_argument",
            "checkpoint_id",
        ),
        (
            "run.start",
            {"assistant_id": "slow", "interrupt_id": "x", "response": 1},
            "invalid_argument",
            "interrupt_id: this is of input.respond",
        ),
        ("input.respond", {}, "invalid_argument", "input.respond requires the interrupt_id"),
        ("input.respond", {"responses": []}, "invalid_argument", "responses: send an array"),
        (
            "input.respond",
            {"interrupt_id": "x", "response": 1, "namespace": "root"},
            "invalid_argument",
            "namespace: a namespace is an array",
        ),
        (
            "input.respond",
            {"interrupt_id": "x", "responses": [{"interrupt_id": "x", "response": 1}]},
            "invalid_argument",
            "interrupt_id: send either this or responses.",
        ),
        (
            "input.respond",
            {"responses": [{"interrupt_id": "x", "response": one} for one in (1, 2)]},
            "invalid_argument",
            "responses: x is answered twice",
        ),
        (
            "input.respond",
            {"interrupt_id": "x", "response": 1, "input": {}},
            "invalid_argument",
            "input: an answer goes on with the thread as it is",
        ),
        (
            "input.respond",
            {"interrupt_id": "x", "response": 1, "stream_mode": "values"},
            "invalid_argument",
            "stream_mode: the protocol decides this",
        ),
        (
            "input.respond",
            {"interrupt_id": "x", "response": 1},
            "no_such_interrupt",
            "Unknown or already-consumed interrupt: x. No interrupt waits on this thread.",
        ),
        ("agent.getTree", {}, "no_such_run", "No active run is bound to this thread."),
    ],
)
async def test_a_refused_command_names_a_code_and_says_what_to_change(
    http, method, params, code, message
):
    told = await command(http, thread_id(), method, **params)
    assert (told["type"], told["error"]) == ("error", code), told
    assert message in told["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "channels is required and must be a non-empty array."),
        ({"channels": ["bad"]}, "channels contains unsupported entries: bad."),
        ({"channels": ["values"], "since": -1}, "since: send a whole number"),
        (None, "Send an object with channels"),
    ],
)
async def test_a_bad_subscription_is_a_bad_request(http, body, message):
    answer = await http.post(
        f"/threads/{thread_id()}/stream/events", content=json.dumps(body), headers=JSON
    )
    assert answer.status_code == 400
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"null", b" null "])
async def test_no_body_is_refused_by_the_rules_of_the_protocol(http, content):
    path = f"/threads/{thread_id()}"
    told = await http.post(f"{path}/commands", content=content, headers=JSON)
    assert (told.status_code, told.json()["error"]) == (400, "invalid_argument"), told.text
    told = await http.post(f"{path}/stream/events", content=content, headers=JSON)
    assert (told.status_code, told.json()["detail"][:28]) == (
        400,
        "Send an object with channels",
    ), told.text


async def test_a_bad_last_event_id_is_a_bad_request(http):
    headers = {"Last-Event-ID": "x:1"}
    body = {"channels": ["values"]}
    path = f"/threads/{thread_id()}/stream/events"
    answer = await http.post(path, json=body, headers=headers)
    assert answer.status_code == 400
    assert "Last-Event-ID: send the id of an event" in answer.json()["detail"]


async def test_expired_events_are_not_told_but_the_end_is(http, forms_server):
    thread = thread_id()
    await start(http, thread)
    async with stream(http, thread) as events:
        told = await until(events)
    async with await psycopg.AsyncConnection.connect(
        forms_server.database_url, autocommit=True
    ) as connection:
        await connection.execute(
            "DELETE FROM run_events USING runs WHERE runs.thread_id = %s"
            " AND run_events.run_id = runs.run_id",
            [thread],
        )
    async with stream(http, thread, since=told[2]["seq"]) as events:
        (end,) = await until(events)
    assert end["event_id"] == told[-1]["event_id"]
    async with stream(http, thread) as events:
        await start(http, thread)
        assert len(await until(events)) == 6
