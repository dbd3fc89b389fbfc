"""What handlers change in their value: it is checked and honoured, or the request fails."""

import json
from typing import Any

import pytest
from langgraph_sdk import Auth
from structlog.testing import capture_logs

from headrace.auth.handler_errors import HandlerFailed
from headrace.auth.handlers import Handlers
from headrace.auth.principal import Principal
from headrace.edge.access import PAGE, Access
from headrace.store_items.schemas import ItemPut
from headrace.threads.schemas import ThreadCreate, ThreadFilter, ThreadSearch

#: Action, method, path and body.
Request = tuple[str, str, str, Any]
CRON: dict[str, Any] = {"assistant_id": "agent", "schedule": "0 0 1 1 *", "input": {"messages": []}}
ITEM: dict[str, Any] = {"namespace": ["n"], "key": "k", "value": {"a": 1}}
RUN: dict[str, Any] = {"assistant_id": "agent", "input": {"messages": []}}
#: Constant: the names of tests have them.
ID = "0b2f6c1e-5b0e-4c8e-9d39-2a6a3f1f7c11"
OTHER = "c7d1a4b2-93fe-4e0b-8a57-6f0d2b9e4d22"
LIST_TOOLS: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

PUT: Request = ("store.put", "PUT", "/store/items", ITEM)
GET: Request = ("store.get", "GET", "/store/items?namespace=n&key=k", None)
DELETE: Request = ("store.delete", "DELETE", "/store/items", {"namespace": ["n"], "key": "k"})
FIND: Request = ("store.search", "POST", "/store/items/search", {})
NAMESPACES: Request = ("store.list_namespaces", "POST", "/store/namespaces", {})
SEARCH: Request = ("threads.search", "POST", "/threads/search", {})
COUNT: Request = ("threads.search", "POST", "/threads/count", {})
CREATE: Request = ("threads.create", "POST", "/threads", {})
READ: Request = ("threads.read", "GET", f"/threads/{ID}", None)
PATCH: Request = ("threads.update", "PATCH", f"/threads/{ID}", {"metadata": {"a": 1}})
REMOVE: Request = ("threads.delete", "DELETE", f"/threads/{ID}", None)
PRUNE: Request = ("threads.delete", "POST", "/threads/prune", {"thread_ids": [ID]})
START: Request = ("threads.create_run", "POST", "/runs/wait", RUN)
STOP: Request = ("threads.update", "POST", f"/threads/{ID}/runs/{ID}/cancel", None)
ASSISTANT: Request = ("assistants.create", "POST", "/assistants", {"graph_id": "agent"})
CHANGE: Request = ("assistants.update", "PATCH", f"/assistants/{ID}", {"name": "x"})
SHOW: Request = ("assistants.read", "GET", f"/assistants/{ID}", None)
FORGET: Request = ("assistants.delete", "DELETE", f"/assistants/{ID}", None)
ASSISTANTS: Request = ("assistants.search", "POST", "/assistants/search", {})
MODELS: Request = ("assistants.search", "GET", "/v1/models", None)
SCHEDULE: Request = ("crons.create", "POST", "/runs/crons", CRON)
RESCHEDULE: Request = ("crons.update", "PATCH", f"/runs/crons/{ID}", {"enabled": False})
CRONS: Request = ("crons.search", "POST", "/runs/crons/search", {})
CRON_SHOWN: Request = ("crons.read", "GET", f"/runs/crons/{ID}", None)
CRON_GONE: Request = ("crons.delete", "DELETE", f"/runs/crons/{ID}", None)

#: The request, the part of the value, and what the handler leaves there.
WRONG: list[tuple[Request, str, Any]] = [
    (PUT, "value", "text"),
    (PUT, "key", 5),
    (PUT, "key", None),
    (PUT, "namespace", 5),
    (PUT, "namespace", "n"),
    (PUT, "index", 5),
    (PUT, "namespace_prefix", ["changer"]),
    (GET, "namespace", [5]),
    (GET, "key", None),
    (DELETE, "key", 5),
    (FIND, "limit", None),
    (FIND, "limit", "x"),
    (FIND, "limit", -1),
    (FIND, "offset", -5),
    (FIND, "filter", "x"),
    (FIND, "query", 5),
    (NAMESPACES, "suffix", 5),
    (NAMESPACES, "max_depth", "x"),
    (SEARCH, "limit", None),
    (SEARCH, "limit", 10**7),
    (SEARCH, "status", "bogus"),
    (SEARCH, "values", [1]),
    (SEARCH, "metadata", "x"),
    (SEARCH, "assistant_id", ID),
    (COUNT, "status", "bogus"),
    (CREATE, "ttl", "x"),
    (CREATE, "if_exists", "zz"),
    (CREATE, "thread_id", "zz"),
    (CREATE, "metadata", [1]),
    (READ, "thread_id", OTHER),
    (PATCH, "thread_id", OTHER),
    (PATCH, "metadata", 5),
    (REMOVE, "thread_id", None),
    (PRUNE, "thread_id", OTHER),
    (STOP, "action", "rollback"),
    (STOP, "run_id", OTHER),
    (START, "assistant_id", ID),
    (START, "kwargs", {}),
    (START, "kwargs/config", 5),
    (START, "kwargs/config", None),
    (START, "kwargs/config", {}),
    (START, "kwargs/context", "x"),
    (START, "kwargs/stream_mode", ["bogus"]),
    (START, "kwargs/webhook", 5),
    (START, "kwargs/webhook", "https://10.0.0.1/"),
    (START, "kwargs/webhook", "ftp://example.org/"),
    (START, "kwargs/auth", {"identity": "root"}),
    (START, "kwargs/deadline_seconds", 10**7),
    (START, "kwargs/deadline_seconds", -1),
    (ASSISTANT, "config", 5),
    (ASSISTANT, "context", [1]),
    (ASSISTANT, "assistant_id", "zz"),
    (ASSISTANT, "if_exists", "zz"),
    (CHANGE, "graph_id", 5),
    (CHANGE, "version", 2),
    (SHOW, "assistant_id", OTHER),
    (FORGET, "assistant_id", OTHER),
    (ASSISTANTS, "limit", -1),
    (MODELS, "limit", "x"),
    (MODELS, "offset", -1),
    (SCHEDULE, "schedule", 5),
    (SCHEDULE, "end_time", "zz"),
    (SCHEDULE, "cron_id", ID),
    (SCHEDULE, "thread_id", ID),
    (SCHEDULE, "user_id", "eve"),
    (SCHEDULE, "payload", {}),
    (SCHEDULE, "payload/config", 1),
    (RESCHEDULE, "cron_id", OTHER),
    (RESCHEDULE, "schedule", 5),
    (CRONS, "limit", 10**7),
    (CRONS, "thread_id", 5),
    (CRON_SHOWN, "cron_id", OTHER),
    (CRON_GONE, "cron_id", OTHER),
]


@pytest.fixture
def send(http):
    def sent(request, path, part):
        action, method, url, body = request
        change = json.dumps({"action": action, "parts": {path: part}})
        return http("changer").request(method, url, json=body, headers={"x-change": change})

    return sent


@pytest.mark.parametrize(("request_", "path", "part"), WRONG)
def test_what_cannot_be_or_would_have_no_effect_fails(send, guarded, request_, path, part):
    answer = send(request_, path, part)
    error = answer.json()
    error = error.get("error", error)
    assert (answer.status_code, error["code"]) == (500, "auth_handler_failed"), answer.text
    told = [
        line
        for line in map(json.loads, guarded.log().splitlines()[-200:])
        if line["event"] == "auth_handler_failed"
    ]
    assert told[-1]["handler"] == request_[0]
    assert told[-1]["field"].startswith(path.partition("/")[0])


def test_a_changed_search_bounds_lists_of_doors_and_runs(send, http):
    client = http("changer")
    made = client.post("/assistants", json={"graph_id": "agent"}).json()["assistant_id"]

    def models(**parts):
        change = json.dumps({"action": "assistants.search", "parts": parts})
        listed = client.get("/v1/models", headers={"x-change": change}).json()["data"]
        call = client.post("/mcp", json=LIST_TOOLS, headers={"x-change": change}).json()
        return [one["id"] for one in listed], call["result"]

    for parts in ({"graph_id": "other"}, {"offset": 1000}):
        listed, result = models(**parts)
        assert (listed, result["tools"]) == ([], [])
    listed, result = models(limit=1)
    assert len(listed) == len(result["tools"]) == 1
    assert result["nextCursor"] == "1"
    assert {"agent", made} <= set(models(graph_id="agent")[0])
    thread = client.post("/threads", json={"metadata": {"owner": "changer"}}).json()["thread_id"]
    for _ in range(2):
        client.post(f"/threads/{thread}/runs/wait", json=RUN)
    runs = ("threads.search", "GET", f"/threads/{thread}/runs", None)
    assert len(send(runs, "limit", 1).json()) == 1
    assert send(COUNT, "limit", 1).status_code == 200


def test_a_changed_body_is_honoured(send):
    assert send(CREATE, "thread_id", ID).json()["thread_id"] == ID
    named = send((*SEARCH[:3], {"limit": 1}), "ids", [ID]).json()
    assert [one["thread_id"] for one in named] == [ID]
    bounded = send((*START[:3], {**RUN, "on_completion": "keep"}), "kwargs/deadline_seconds", 30)
    assert bounded.status_code == 200, bounded.text
    moved = send((*PUT[:3], {**ITEM, "key": "old"}), "key", "new")
    assert moved.status_code == 204, moved.text


def access(change) -> Access:
    auth = Auth()

    @auth.on
    async def handler(ctx, value):
        change(value)
        return {"owner": "ada"} if ctx.resource != "store" else None

    return Access(Principal("ada"), Handlers(auth), {})


async def test_what_the_caller_has_sent_is_not_checked_again():
    """Its form is already the one of the server, and another check might refuse it."""
    body = ItemPut.model_construct(namespace=["n"], key="k" * 9000, value={}, index=None)
    _, left = await access(lambda value: value.update(namespace=("ada", "n"))).to_send(
        "store", "put", body, ("namespace", "key", "value")
    )
    assert (left.namespace, left.key) == (["ada", "n"], "k" * 9000)


async def test_a_change_in_place_is_checked_too():
    body = ThreadCreate.model_validate({"ttl": {"ttl": 5}, "metadata": {"a": {"b": 1}}})
    changing = access(lambda value: value["ttl"].update(ttl=-1))
    with capture_logs() as logs, pytest.raises(HandlerFailed, match="ttl"):
        await changing.to_send("threads", "create", body, ("ttl",))
    assert [(one["handler"], one["field"]) for one in logs] == [("threads.create", "ttl")]
    changing = access(lambda value: value["metadata"]["a"].update(b=2))
    _, left = await changing.to_send("threads", "create", body, ("ttl",))
    assert left.metadata == {"a": {"b": 2}, "owner": "ada"}
    assert left.ttl == body.ttl


async def test_metadata_that_a_handler_adds_where_none_is_and_the_page_of_a_count_do_nothing():
    def change(value):
        value.setdefault("metadata", {})["owner"] = "ada"
        value["limit"] = 5

    _, left = await access(change).to_send(
        "threads", "search", ThreadFilter(), (), unheeded=PAGE, limit=None, offset=0
    )
    assert left.metadata == {"owner": "ada"}
    _, searched = await access(change).to_send("threads", "search", ThreadSearch(), ("limit",))
    assert searched.limit == 5
    add = access(lambda value: value.update(metadata={"owner": "ada"}))
    assert (await add.to("threads", "read", thread_id="t")).filter == {"owner": "ada"}
    with pytest.raises(HandlerFailed, match="limit"):
        await access(change).to("threads", "read", thread_id="t")
