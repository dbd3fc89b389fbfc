"""The small door, on the built-in graph."""

import json
from typing import Any

import httpx
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def built_in(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built-in")
    with live_server(folder, module_database, config=None) as server:
        yield server


def say(server: LiveServer, message: str, **more: str) -> dict[str, Any]:
    response = httpx.post(f"{server.url}/chat", json={"message": message, **more}, timeout=20)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def streamed(server: LiveServer, body: dict[str, str]) -> list[tuple[str, Any]]:
    events, name = [], ""
    with httpx.stream("POST", f"{server.url}/chat/stream", json=body, timeout=20) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    return events


def test_a_message_gives_a_reply_a_thread_and_a_run(built_in):
    first = say(built_in, "Hi, my name is Ada.")
    assert set(first) == {"thread_id", "run_id", "reply", "interrupts", "messages"}
    second = say(built_in, "What is my name?", thread_id=first["thread_id"])
    assert second["reply"] == "Your name is Ada."
    assert [message["type"] for message in second["messages"]] == ["human", "ai"] * 2
    run = httpx.get(f"{built_in.url}/threads/{first['thread_id']}/runs/{second['run_id']}").json()
    assert run["status"] == "success"


def test_memory_follows_the_user_not_the_thread(built_in):
    say(built_in, "Remember that I like green tea.", user_id="bob@example.org")
    reply = say(built_in, "What do you remember?", user_id="bob@example.org")["reply"]
    assert reply == "You asked me to remember: I like green tea."
    assert say(built_in, "What do you remember?", user_id="eve")["reply"] == "Nothing yet."


def test_the_reply_comes_in_pieces(built_in):
    events = streamed(built_in, {"message": "one two three", "thread_id": "any id will do"})
    names = [name for name, _ in events]
    assert names[0] == "metadata"
    assert names[-1] == "end"
    pieces = [data[0]["content"] for name, data in events if name == "messages"]
    assert pieces[:5] == ["You", " said:", " one", " two", " three"]
    again = say(built_in, "What did I just say?", thread_id="any id will do")
    assert again["reply"] == "You said: one two three"


def logged(server: LiveServer, event: str, **fields: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    wanted = {"event": event, **fields}.items()
    return [line for line in lines if wanted <= {k: str(v) for k, v in line.items()}.items()]


def test_the_log_tells_which_request_and_run_on_which_thread(built_in):
    answer = say(built_in, "Hello")
    (ended,) = logged(built_in, "run_ended", run_id=answer["run_id"])
    assert ended["thread_id"] == answer["thread_id"]
    request_id = ended["request_id"]
    # Written when the last byte has left, which the client may see earlier.
    wait_until(lambda: logged(built_in, "request_answered", request_id=request_id, route="/chat"))
