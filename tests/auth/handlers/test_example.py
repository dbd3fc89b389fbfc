"""The example of docs/auth-handlers.md, as a reader copies it."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.apps import app_client, settings_for

PAGE = Path(__file__).parents[3] / "docs" / "auth-handlers.md"
GRAPH = """
from langgraph.graph import END, START, MessagesState, StateGraph

{node}

builder = StateGraph(MessagesState).add_node("node", node)
builder.add_edge(START, "node").add_edge("node", END)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    text = PAGE.read_text()
    manifest, auth, node = re.findall(r"```(?:json|python)\n(.*?)```", text, re.DOTALL)
    (tmp_path / "langgraph.json").write_text(manifest)
    (tmp_path / "auth.py").write_text(auth)
    (tmp_path / "graph.py").write_text(GRAPH.format(node=node))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("auth", "graph_", "graph")):
            del sys.modules[name]


async def test_the_example_does_what_it_says(project, database_url):
    ada = {"Authorization": "Bearer token-of-ada"}
    bob = {"Authorization": "Bearer token-of-bob"}
    async with app_client(settings_for(database_url, project / "langgraph.json")) as client:
        refused = await client.post("/threads", json={})
        assert (refused.status_code, refused.json()["detail"]) == (401, "Send a token.")
        assert refused.headers["www-authenticate"] == "Bearer"
        thread = (await client.post("/threads", json={}, headers=ada)).json()["thread_id"]
        run = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}
        answer = await client.post(f"/threads/{thread}/runs/wait", json=run, headers=ada)
        assert answer.json()["messages"][-1]["content"] == "Hello ada of acme"
        for path in ("", "/state", "/runs"):
            seen = await client.get(f"/threads/{thread}{path}", headers=bob)
            assert seen.status_code == 404, path
        made = {"graph_id": "agent"}
        assert (await client.post("/assistants", json=made, headers=bob)).status_code == 403
        assert (await client.post("/assistants", json=made, headers=ada)).status_code == 200
        assert (await client.get("/assistants/agent", headers=bob)).status_code == 200
        item = {"namespace": ["notes"], "key": "tea", "value": {"likes": "green"}}
        assert (await client.put("/store/items", json=item, headers=ada)).status_code == 204
        query = {"namespace": "notes", "key": "tea"}
        found = (await client.get("/store/items", params=query, headers=ada)).json()
        assert found["namespace"] == ["ada", "notes"]
        assert (await client.get("/store/items", params=query, headers=bob)).json() is None
