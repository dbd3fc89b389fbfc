"""Each operation of the API asks the handlers, or is one that everybody may call."""

import json
from uuid import uuid4

import pytest

from tests.auth.handlers.conftest import told

THREAD, RUN, CRON, ASSISTANT = (str(uuid4()) for _ in range(4))
MESSAGE = {"role": "user", "content": "hi"}
#: The operations that a caller needs no token for.
PUBLIC = {
    "GET /health",
    "GET /info",
    "GET /livez",
    "GET /metrics",
    "GET /ok",
    "GET /readyz",
    "GET /startupz",
}
#: The action that each operation asks about.
ACTIONS = {
    "POST /assistants": "assistants.create",
    "POST /assistants/search": "assistants.search",
    "POST /assistants/count": "assistants.search",
    "GET /assistants/{assistant_id}": "assistants.read",
    "PATCH /assistants/{assistant_id}": "assistants.update",
    "DELETE /assistants/{assistant_id}": "assistants.delete",
    "GET /assistants/{assistant_id}/graph": "assistants.read",
    "GET /assistants/{assistant_id}/schemas": "assistants.read",
    "GET /assistants/{assistant_id}/subgraphs": "assistants.read",
    "GET /assistants/{assistant_id}/subgraphs/{namespace}": "assistants.read",
    "POST /assistants/{assistant_id}/versions": "assistants.read",
    "POST /assistants/{assistant_id}/latest": "assistants.update",
    "POST /threads": "threads.create",
    "POST /threads/search": "threads.search",
    "POST /threads/count": "threads.search",
    "POST /threads/prune": "threads.delete",
    "GET /threads/{thread_id}": "threads.read",
    "PATCH /threads/{thread_id}": "threads.update",
    "DELETE /threads/{thread_id}": "threads.delete",
    "POST /threads/{thread_id}/copy": "threads.create",
    "GET /threads/{thread_id}/state": "threads.read",
    "POST /threads/{thread_id}/state": "threads.update",
    "GET /threads/{thread_id}/state/{checkpoint_id}": "threads.read",
    "POST /threads/{thread_id}/state/checkpoint": "threads.read",
    "GET /threads/{thread_id}/history": "threads.read",
    "POST /threads/{thread_id}/history": "threads.read",
    "GET /threads/{thread_id}/storage": "threads.read",
    "GET /threads/{thread_id}/stream": "threads.read",
    "POST /threads/{thread_id}/stream/events": "threads.read",
    "POST /threads/{thread_id}/commands": "threads.create_run",
    "GET /threads/{thread_id}/runs": "threads.read",
    "POST /threads/{thread_id}/runs": "threads.create_run",
    "POST /threads/{thread_id}/runs/wait": "threads.create_run",
    "POST /threads/{thread_id}/runs/stream": "threads.create_run",
    "GET /threads/{thread_id}/runs/{run_id}": "threads.read",
    "DELETE /threads/{thread_id}/runs/{run_id}": "threads.delete",
    "POST /threads/{thread_id}/runs/{run_id}/cancel": "threads.update",
    "GET /threads/{thread_id}/runs/{run_id}/join": "threads.read",
    "GET /threads/{thread_id}/runs/{run_id}/stream": "threads.read",
    "GET /threads/{thread_id}/runs/{run_id}/timeline": "threads.read",
    "GET /runs/{run_id}/join": "threads.read",
    "GET /runs/{run_id}/stream": "threads.read",
    "POST /runs": "threads.create_run",
    "POST /runs/wait": "threads.create_run",
    "POST /runs/stream": "threads.create_run",
    "POST /runs/batch": "threads.create_run",
    "POST /runs/cancel": "threads.update",
    "POST /runs/crons": "crons.create",
    "POST /threads/{thread_id}/runs/crons": "crons.create",
    "POST /runs/crons/search": "crons.search",
    "POST /runs/crons/count": "crons.search",
    "GET /runs/crons/{cron_id}": "crons.read",
    "PATCH /runs/crons/{cron_id}": "crons.update",
    "DELETE /runs/crons/{cron_id}": "crons.delete",
    "PUT /store/items": "store.put",
    "GET /store/items": "store.get",
    "DELETE /store/items": "store.delete",
    "POST /store/items/search": "store.search",
    "POST /store/namespaces": "store.list_namespaces",
    "POST /chat": "threads.create_run",
    "POST /chat/stream": "threads.create_run",
    "POST /v1/chat/completions": "threads.create_run",
    "POST /v1/responses": "threads.create_run",
    "GET /v1/models": "assistants.search",
    "GET /v1/models/{model}": "assistants.read",
    "POST /mcp": "threads.create_run",
    "POST /a2a/{assistant_id}": "threads.create_run",
    "GET /.well-known/agent-card.json": None,
    "GET /a2a/{assistant_id}/.well-known/agent-card.json": "assistants.read",
    "GET /me": None,
    "POST /me": None,
}
#: Bodies of APIs whose description has no example.
BODIES = {
    # The example names another user.
    "POST /chat": {"message": "hi"},
    "POST /chat/stream": {"message": "hi"},
    "POST /v1/chat/completions": {"model": "agent", "messages": [MESSAGE]},
    "POST /v1/responses": {"model": "agent", "input": "hi"},
    "POST /mcp": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "agent", "arguments": {"messages": [MESSAGE]}},
    },
    "POST /a2a/{assistant_id}": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "message/send",
        "params": {
            "message": {
                "role": "user",
                "kind": "message",
                "messageId": "m1",
                "parts": [{"kind": "text", "text": "hi"}],
            }
        },
    },
}
#: The parameters of other paths are ids too, of assistants that other callers have made.
IDS = {
    "thread_id": THREAD,
    "run_id": RUN,
    "cron_id": CRON,
    "assistant_id": ASSISTANT,
    "checkpoint_id": str(uuid4()),
    "namespace": "child",
    "model": ASSISTANT,
}
#: Their runs are made with the graph's own assistant.
OF_GRAPH = {"POST /a2a/{assistant_id}"}


@pytest.fixture(scope="module")
def operations(http):
    paths = http("").get("/openapi.json").json()["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def send(client, name, operation):
    method, _, path = name.partition(" ")
    ids = IDS | ({"assistant_id": "agent"} if name in OF_GRAPH else {})
    example = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = BODIES.get(name, example.get("example"))
    query = {"namespace": "a", "key": "k"} if name == "GET /store/items" else {}
    return client.request(method, path.format(**ids), json=body, params=query)


def test_each_operation_is_in_the_table(operations):
    assert set(operations) == ACTIONS.keys() | PUBLIC


def test_each_operation_asks_about_its_action(operations, http):
    found = {}
    for name, operation in operations.items():
        if ACTIONS.get(name) is None:
            continue
        answer = send(http("teller"), name, operation)
        found[name] = asked_by(answer)
    assert found == {name: action for name, action in ACTIONS.items() if action is not None}


def asked_by(answer):
    """The action that a refusal tells, in the form of each API."""
    text = answer.text
    start = text.find('{\\"action\\"')
    if start < 0:
        return f"{answer.status_code} {text[:200]}"
    detail, _ = json.JSONDecoder().raw_decode('"' + text[start:])
    return json.loads(detail)["action"]


def test_nobody_is_let_in_without_a_token_but_where_everybody_is(operations, http):
    for name, operation in operations.items():
        status = send(http(""), name, operation).status_code
        assert status == 401 if name in ACTIONS else status in (200, 503), (name, status)
    for path in ("/docs", "/openapi.json"):
        assert http("").get(path).status_code == 200, path


def test_a_body_that_is_read_elsewhere_asks_too(http):
    client = http("teller")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert asked_by(client.post("/mcp", json=call)) == "assistants.search"
    for method in ("tasks/get", "tasks/resubscribe", "tasks/cancel"):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": RUN}}
        action = "threads.update" if method == "tasks/cancel" else "threads.read"
        assert asked_by(client.post("/a2a/agent", json=body)) == action
    for method, params, action in (
        ("input.respond", {"interrupt_id": "i", "response": 1}, "threads.read"),
        ("agent.getTree", {}, "threads.read"),
    ):
        command = {"id": 1, "method": method, "params": params}
        answer = client.post(f"/threads/{THREAD}/commands", json=command)
        assert answer.json()["error"] == "permission_denied"
        assert asked_by(answer) == action
    resumed = client.post("/chat", json={"thread_id": THREAD, "resume": "yes"})
    assert asked_by(resumed) == "threads.read"
    responded = {"model": "agent", "input": "hi", "previous_response_id": f"resp_{RUN}"}
    assert asked_by(client.post("/v1/responses", json=responded)) == "threads.read"


def test_who_may_only_read_stops_no_run_by_leaving(http):
    client = http("alice")
    thread = client.post("/threads", json={}).json()["thread_id"]
    answer = http("teller").get(
        f"/threads/{thread}/runs/{RUN}/join", params={"cancel_on_disconnect": True}
    )
    assert told(answer)["action"] == "threads.read"


def test_handlers_see_what_the_official_server_shows_them(http):
    client = http("teller")
    created = told(client.post("/threads", json={"metadata": {"k": 1}}))["value"]
    assert created == {
        "thread_id": None,
        "metadata": {"k": 1},
        "if_exists": None,
        "ttl": None,
    }
    run = told(
        client.post(
            f"/threads/{THREAD}/runs",
            json={"assistant_id": "agent", "input": {}, "metadata": {"m": 1}},
        )
    )["value"]
    assert run.keys() == {
        "thread_id",
        "assistant_id",
        "run_id",
        "status",
        "metadata",
        "multitask_strategy",
        "if_not_exists",
        "after_seconds",
        "prevent_insert_if_inflight",
        "kwargs",
    }
    assert (run["thread_id"], run["status"], run["metadata"]["m"]) == (THREAD, "pending", 1)
    cancelled = client.post(f"/threads/{THREAD}/runs/{RUN}/cancel", params={"action": "rollback"})
    assert told(cancelled)["value"] == {"thread_id": THREAD, "run_id": RUN, "action": "rollback"}
    searched = told(client.post("/threads/search", json={"limit": 3}))["value"]
    assert (searched["limit"], searched["offset"], searched["metadata"]) == (3, 0, {})
    put = {"namespace": ["a", "b"], "key": "k", "value": {"x": 1}}
    stored = told(client.put("/store/items", json=put))["value"]
    assert stored == {"namespace": ["a", "b"], "key": "k", "value": {"x": 1}, "index": None}
    cron = {"assistant_id": "agent", "schedule": "0 9 * * *", "input": {}}
    scheduled = told(client.post("/runs/crons", json=cron))["value"]
    assert (scheduled["schedule"], scheduled["user_id"]) == ("0 9 * * *", "teller")
    assert {"cron_id", "thread_id", "payload", "end_time", "metadata"} <= scheduled.keys()
    renamed = client.patch(f"/assistants/{ASSISTANT}", json={"name": "Later"})
    assert told(renamed)["value"]["name"] == "Later"
    read = told(client.get("/assistants/agent"))["value"]
    assert read["assistant_id"] == "fe096781-5601-53d2-b2f6-0d3403f7e9ca"
