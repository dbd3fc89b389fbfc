"""A WebSocket asks the handlers as HTTP does."""

import json
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.auth.handlers.conftest import token
from tests.support.live import GRAPHS, live_server

EMPTY: dict[str, Any] = {"messages": []}


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    """A server with handlers, and without an app of one's own: WebSockets go to that app."""
    folder = tmp_path_factory.mktemp("sockets")
    code = GRAPHS.with_name("guarded.py")
    manifest = {"graphs": {"agent": f"{code}:agent"}, "auth": {"path": f"{code}:auth"}}
    (folder / "langgraph.json").write_text(json.dumps(manifest))
    config = folder / "langgraph.json"
    with live_server(folder, module_database, config=config, processes=1) as server:
        yield server


def socket_of(server, thread, name):
    url = server.url.replace("http://", "ws://")
    headers = token(name) if name else {}
    return connect(f"{url}/threads/{thread}/stream/events", additional_headers=headers)


def test_a_socket_is_for_who_may_read_the_thread(server):
    thread = httpx.post(
        f"{server.url}/threads", json={}, headers=token("alice"), timeout=20
    ).json()["thread_id"]
    for name, status, word in (("", 401, "no token"), ("teller", 403, "threads.read")):
        with pytest.raises(InvalidStatus) as refused, socket_of(server, thread, name):
            pass
        assert refused.value.response.status_code == status
        assert word in refused.value.response.body.decode()
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": EMPTY}}
    for name, kind in (("bob", "error"), ("alice", "success")):
        with socket_of(server, thread, name) as socket:
            socket.send(json.dumps(command))
            assert json.loads(socket.recv(timeout=10))["type"] == kind
