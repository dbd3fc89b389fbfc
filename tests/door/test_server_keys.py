"""What the server tells a graph of a run, no caller can set, by body, context, header or cron."""

import json
from typing import Any

import pytest
import pytest_asyncio

from headrace.graphs.http_entry import HeaderRules
from tests.support.apps import GRAPHS, app_client, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORGED = "forged"
KEYS = (
    "run_id",
    "graph_id",
    "assistant_id",
    "langgraph_auth_user",
    "langgraph_auth_user_id",
    "langgraph_auth_permissions",
    "langgraph_request_id",
    "langgraph_other",
    "__pregel_task_id",
    "__pregel_store",
    "__otel",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(module_database, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("keys") / "langgraph.json"
    http = {"configurable_headers": {"includes": ["*"]}}
    graphs = {"echoes": f"{GRAPHS / 'planted.py'}:echoes"}
    manifest.write_text(json.dumps({"graphs": graphs, "http": http}))
    async with app_client(settings_for(module_database, manifest)) as http_client:
        yield http_client


async def seen_by(client, **body: Any) -> dict[str, Any]:
    headers = body.pop("headers", {})
    sent = {"assistant_id": "echoes", "input": {"value": 1}, **body}
    answer = await client.post("/runs/wait", json=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    seen: dict[str, Any] = answer.json()["seen"]
    return seen


@pytest.mark.parametrize("way", ["configurable", "context", "headers", "assistant"])
async def test_a_graph_never_sees_a_forged_key(client, way):
    forged: dict[str, Any] = dict.fromkeys(KEYS, FORGED)
    more: dict[str, Any] = {}
    if way == "configurable":
        more = {"config": {"configurable": {**forged, "plain": "kept"}}}
    elif way == "context":
        more = {"context": {**forged, "plain": "kept"}}
    elif way == "headers":
        more = {"headers": {**forged, "thread_id": FORGED, "plain": "kept", "user_id": FORGED}}
    else:
        own = {"graph_id": "echoes", "config": {"configurable": {**forged, "plain": "kept"}}}
        made = (await client.post("/assistants", json=own)).json()
        more = {"assistant_id": made["assistant_id"]}
    seen = await seen_by(client, **more)
    assert seen["configurable"]["plain"] == "kept"
    assert FORGED not in json.dumps(seen["configurable"]), seen["configurable"]
    assert FORGED not in json.dumps(seen["metadata"])


async def test_a_thread_keeps_no_forged_key(client):
    """Factories get the configuration of a thread's last run when its state is read."""
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    forged = {**dict.fromkeys(KEYS, FORGED), "plain": "kept"}
    body = {"assistant_id": "echoes", "input": {}, "config": {"configurable": forged}}
    await client.post(f"/threads/{thread}/runs/wait", json=body)
    read = (await client.get(f"/threads/{thread}")).json()
    assert read["config"] == {"configurable": {"plain": "kept"}}


async def test_a_wildcard_includes_no_header_that_says_who_calls():
    sent = [(b"user_id", b"x"), (b"langgraph_auth_user", b"x"), (b"x-plain", b"y")]
    assert HeaderRules(includes=("*",)).chosen(sent) == {"x-plain": "y"}
    assert HeaderRules(includes=("user_id",)).chosen(sent) == {"user_id": "x"}
    assert HeaderRules(includes=("langgraph_auth_user",)).chosen(sent) == {}
