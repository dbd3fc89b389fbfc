"""Each refusal is the SDK's typed error, and its words tell the caller what to change."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import errors, get_client

pytestmark = pytest.mark.acceptance

NOWHERE = "00000000-0000-4000-8000-000000000000"
Call = Callable[[Any, str], Awaitable[Any]]


class Refusal(NamedTuple):
    """``call(client, thread)`` raises ``error`` whose words have ``says``."""

    name: str
    call: Call
    error: type[errors.APIStatusError]
    says: str


def streamed(thread: str | None, graph: str, **options: Any) -> Call:
    """The first part of a stream; ``{thread}`` where no thread is given."""

    async def call(client: Any, made: str) -> None:
        await anext(client.runs.stream(thread or made, graph, **options))

    return call


GONE, WRONG, TWICE, SENSELESS, FORBIDDEN = (
    errors.NotFoundError,
    errors.UnprocessableEntityError,
    errors.ConflictError,
    errors.BadRequestError,
    errors.PermissionDeniedError,
)
HI: dict[str, Any] = {"messages": []}
RESUME: Any = {"resume": "yes"}
REFUSALS = [
    Refusal("thread", lambda c, t: c.threads.get(NOWHERE), GONE, NOWHERE),
    Refusal("its state", lambda c, t: c.threads.get_state(NOWHERE), GONE, "not found"),
    Refusal("its history", lambda c, t: c.threads.get_history(NOWHERE), GONE, "not found"),
    Refusal("its change", lambda c, t: c.threads.update(NOWHERE, metadata={}), GONE, NOWHERE),
    Refusal("its end", lambda c, t: c.threads.delete(NOWHERE), GONE, "not found"),
    Refusal("its runs", lambda c, t: c.runs.list(NOWHERE), GONE, "not found"),
    Refusal("its copy", lambda c, t: c.threads.copy(NOWHERE), TWICE, "onflict"),
    Refusal("its run", streamed(NOWHERE, "agent", input=HI), GONE, "if_not_exists"),
    Refusal("run", lambda c, t: c.runs.get(t, NOWHERE), GONE, "Run"),
    Refusal("run's end", lambda c, t: c.runs.delete(t, NOWHERE), GONE, "Run"),
    Refusal("run's cancel", lambda c, t: c.runs.cancel(t, NOWHERE), GONE, "completed"),
    Refusal(
        "runs' cancel",
        lambda c, t: c.runs.cancel_many(thread_id=t, run_ids=[NOWHERE]),
        GONE,
        "runs",
    ),
    Refusal("assistant", lambda c, t: c.assistants.get(NOWHERE), GONE, NOWHERE),
    Refusal("its graph", lambda c, t: c.assistants.get_graph(NOWHERE), GONE, NOWHERE),
    Refusal("its version", lambda c, t: c.assistants.set_latest(NOWHERE, 1), GONE, NOWHERE),
    Refusal("its new version", lambda c, t: c.assistants.update(NOWHERE, name="x"), GONE, NOWHERE),
    Refusal("graph", lambda c, t: c.assistants.create("nope"), GONE, "agent"),
    Refusal("graph of a run", streamed(None, "nope", input=HI), WRONG, "one of the graphs: agent"),
    Refusal(
        "first", lambda c, t: c.assistants.delete("agent"), FORBIDDEN, "create one of your own"
    ),
    Refusal("id", lambda c, t: c.threads.get("no-uuid"), WRONG, "UUID"),
    Refusal("id of a run", lambda c, t: c.runs.get(t, "no-uuid"), WRONG, "UUID"),
    Refusal("new id", lambda c, t: c.threads.create(thread_id="no-uuid"), WRONG, "UUID"),
    Refusal("taken id", lambda c, t: c.threads.create(thread_id=t), TWICE, "exists"),
    Refusal("mode", streamed(None, "agent", input=HI, stream_mode="odd"), WRONG, "messages-tuple"),
    Refusal("strategy", streamed(None, "agent", multitask_strategy="odd"), WRONG, "enqueue"),
    Refusal("later", streamed(None, "agent", after_seconds=-1), WRONG, "after_seconds"),
    Refusal(
        "context twice",
        streamed(None, "ctx", input={}, context={"a": 1}, config={"configurable": {"b": 1}}),
        SENSELESS,
        "Send context alone",
    ),
    Refusal(
        "answer to nobody",
        lambda c, t: c.runs.create(None, "hitl", command=RESUME),
        SENSELESS,
        "no thread",
    ),
    Refusal("limit", lambda c, t: c.threads.search(limit=5000), WRONG, "limit"),
    Refusal("no limit", lambda c, t: c.assistants.search(limit=0), WRONG, "limit"),
    Refusal("status", lambda c, t: c.threads.count(status="odd"), WRONG, "interrupted"),
    Refusal("order", lambda c, t: c.threads.search(sort_by="odd"), WRONG, "updated_at"),
    Refusal("no item", lambda c, t: c.store.put_item([], "k", {}), SENSELESS, "amespace"),
    Refusal("value", lambda c, t: c.store.put_item(["a"], "k", 5), WRONG, "value"),
    Refusal("page", lambda c, t: c.store.search_items([], limit=-1), WRONG, "limit"),
]


@pytest.fixture
async def client(clients_server):
    async with get_client(url=clients_server.url) as opened:
        yield opened


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
async def test_a_refusal_is_typed_and_tells_what_to_change(client, refusal):
    thread = (await client.threads.create())["thread_id"]
    with pytest.raises(errors.APIStatusError) as caught:
        await refusal.call(client, thread)
    assert type(caught.value) is refusal.error
    assert refusal.says in str(caught.value), str(caught.value)
    body = caught.value.response.json()
    assert isinstance(body["detail"], str)
    assert body["code"] == body["code"].lower()


async def test_a_busy_thread_refuses_what_would_disturb_its_run(client):
    thread = (await client.threads.create())["thread_id"]
    await client.runs.create(thread, "slow", input={"secs": 60})
    with pytest.raises(errors.ConflictError, match="different multitask strategy"):
        await client.runs.create(thread, "slow", multitask_strategy="reject")
    await client.threads.delete(thread)


async def test_what_is_no_json_is_said_to_be_none(clients_server):
    async with httpx.AsyncClient(base_url=clients_server.url) as plain:
        for path in ("/threads", "/runs/wait", "/threads/search", "/store/items/search"):
            answer = await plain.post(
                path, content=b"{no json", headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "malformed_json"), path
        answer = await plain.get(f"/nowhere/{uuid4()}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
