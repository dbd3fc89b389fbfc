"""LangChain's JSON of objects and secrets is data in every field that a caller sends."""

import json
import sys
from typing import Any

import psycopg
import pytest

from tests.support.apps import GRAPHS, app_client, settings_for
from tests.support.crafted import MODULE, Canary
from tests.support.crons import YEARLY, make_due
from tests.support.waiting import eventually

SECRET = "from the environment 7f3a"


def objects(place: str) -> dict[str, Any]:
    """Each form that a loader of LangChain or LangGraph makes something of."""
    kwargs = {"content": "x", "place": place}
    return {
        "mine": {"lc": 1, "type": "constructor", "id": [MODULE, "Kind"], "kwargs": kwargs},
        "old": {"lc": 2, "type": "constructor", "id": [MODULE, "Kind"], "args": [1]},
        "method": {
            "lc": 2,
            "type": "constructor",
            "id": [MODULE, "Kind"],
            "method": "method",
            "kwargs": {},
        },
        "prompt": {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "prompts", "prompt", "PromptTemplate"],
            "kwargs": {"template": "{{ x }}", "template_format": "jinja2", "input_variables": []},
        },
        "secret": {"lc": 1, "type": "secret", "id": ["PLANTED_SECRET"]},
        "not": {"lc": 1, "type": "not_implemented", "id": [MODULE, "Kind"]},
        "pickled": {"py/object": f"{MODULE}.Kind"},
    }


@pytest.fixture
def canary(tmp_path, monkeypatch):
    made = Canary(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PLANTED_SECRET", SECRET)
    yield made
    sys.modules.pop(MODULE, None)


async def test_no_way_in_makes_an_object_of_them(database_url, tmp_path, canary):
    manifest = tmp_path / "langgraph.json"
    graph = f"{GRAPHS / 'planted.py'}:"
    graphs = {name: graph + name for name in ("echoes", "asks", "chat")}
    manifest.write_text(json.dumps({"graphs": graphs}))
    settings = settings_for(
        database_url, manifest, server={"doors": "openai,mcp,a2a", "grace_seconds": 0}
    )
    data = objects("here")
    async with app_client(settings) as client:
        said: list[str] = []

        async def ask(method: str, path: str, **more: Any) -> Any:
            answer = await client.request(method, path, **more)
            said.append(answer.text)
            assert answer.status_code < 500, (path, answer.text)
            assert canary.sings() == [], path
            assert SECRET not in answer.text, path
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            return answer.json() if is_json and answer.content else None

        made = await ask("POST", "/threads", json={"metadata": data})
        assert made["metadata"] == data
        thread = made["thread_id"]
        body: dict[str, Any] = {
            "assistant_id": "echoes",
            "input": {"value": data},
            "config": {"configurable": {"data": data}},
            "metadata": {"data": data},
        }
        seen = (await ask("POST", f"/threads/{thread}/runs/wait", json=body))["seen"]
        assert seen["value"] == data
        assert seen["configurable"]["data"] == data
        assert seen["context"] is None or seen["context"]["data"] == data
        given = {"assistant_id": "echoes", "input": {"value": 1}, "context": {"data": data}}
        seen = (await ask("POST", f"/threads/{thread}/runs/wait", json=given))["seen"]
        assert seen["configurable"]["data"] == data
        command = {"assistant_id": "echoes", "command": {"update": {"value": data}, "goto": "show"}}
        assert (await ask("POST", f"/threads/{thread}/runs/wait", json=command))["value"] == data
        change = {"values": {"value": data}, "as_node": "show"}
        await ask("POST", f"/threads/{thread}/state", json=change)
        assert (await ask("GET", f"/threads/{thread}/state"))["values"]["value"] == data
        await ask("GET", f"/threads/{thread}/history")
        await ask("POST", "/threads/search", json={"metadata": {"mine": data["mine"]}})
        asking = (await ask("POST", "/threads", json={}))["thread_id"]
        await ask(
            "POST", f"/threads/{asking}/runs/wait", json={"assistant_id": "asks", "input": {}}
        )
        resume = {"assistant_id": "asks", "command": {"resume": {"answer": data}}}
        await ask("POST", f"/threads/{asking}/runs/wait", json=resume)
        states = {
            "metadata": {"graph_id": "echoes"},
            "supersteps": [{"updates": [{"values": {"value": data}, "as_node": "__start__"}]}],
        }
        await ask("POST", "/threads", json=states)
        own = {"graph_id": "echoes", "context": {"data": data}, "metadata": {"data": data}}
        await ask("POST", "/assistants", json=own)
        item = {"namespace": ["a"], "key": "k", "value": data}
        await ask("PUT", "/store/items", json=item)
        read = await ask("GET", "/store/items", params={"namespace": "a", "key": "k"})
        assert read["value"] == data
        await ask("POST", "/store/items/search", json={"namespace_prefix": ["a"]})
        for message in (data, [data["mine"]], "x"):
            await ask("POST", "/chat", json={"message": message})
        for content in ([data["secret"]], [{"type": "text", "text": "x", "extra": data}]):
            spoken = {"model": "chat", "messages": [{"role": "user", "content": content}]}
            await ask("POST", "/v1/chat/completions", json={**spoken, "metadata": data})
            await ask(
                "POST", "/v1/responses", json={"model": "chat", "input": [*spoken["messages"]]}
            )
        for method, params in (
            ("tools/call", {"name": "echoes", "arguments": {"value": data}}),
            ("tools/call", {"name": "chat", "arguments": {"messages": [data["mine"]]}}),
        ):
            rpc = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            accepts = {"accept": "application/json, text/event-stream"}
            await ask("POST", "/mcp", json=rpc, headers=accepts)
        part = {"kind": "data", "data": data}
        sent = {"message": {"messageId": "m", "kind": "message", "role": "user", "parts": [part]}}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": sent}
        await ask("POST", "/a2a/echoes", json=rpc)
        start = {"id": 1, "method": "run.start", "params": {**body, "assistant_id": "echoes"}}
        await ask("POST", f"/threads/{thread}/commands", json=start)
        cron = await ask("POST", "/runs/crons", json={**body, "schedule": YEARLY})
        with psycopg.connect(database_url, autocommit=True) as database:
            make_due(database, cron["cron_id"])

            def fired() -> bool:
                row = database.execute(
                    "SELECT count(*) FROM runs WHERE status = 'success'"
                    " AND metadata ->> 'cron_id' = %s",
                    (cron["cron_id"],),
                ).fetchone()
                return bool(row and row[0])

            await eventually(fired)
    assert canary.sings() == []
    assert not [text for text in said if SECRET in text]


async def test_a_message_in_the_form_of_a_constructor_is_a_message(database_url, tmp_path, canary):
    """LangChain's own clients send messages so. Only names of messages are known."""
    manifest = tmp_path / "langgraph.json"
    manifest.write_text(json.dumps({"graphs": {"chat": f"{GRAPHS / 'planted.py'}:chat"}}))

    def message(*named: str) -> dict[str, Any]:
        kwargs = {"content": "hi", "additional_kwargs": objects("x")}
        return {"lc": 1, "type": "constructor", "id": list(named), "kwargs": kwargs}

    async with app_client(settings_for(database_url, manifest)) as client:
        for named, fine in (
            (("langchain", "schema", "messages", "HumanMessage"), True),
            ((MODULE, "HumanMessage"), True),
            ((MODULE, "Kind"), False),
        ):
            body = {"assistant_id": "chat", "input": {"messages": [message(*named)]}}
            answer = (await client.post("/runs/wait", json=body)).json()
            assert ("__error__" not in answer) is fine, (named, answer)
            assert SECRET not in json.dumps(answer)
            assert canary.sings() == []
