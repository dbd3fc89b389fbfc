"""``authenticate``: who is let in, what graphs and routes see of the user, what failures answer."""

import json
import socket
from urllib.parse import urlsplit

import psycopg
import pytest
from langgraph_sdk.errors import AuthenticationError

from tests.auth.handlers.conftest import token
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import wait_until


def seen_by_graph(values):
    return json.loads(values["messages"][-1]["content"])


def test_refusals_are_those_of_the_handler(http, user):
    for name, detail in (("", "no token"),):
        answer = http(name).post("/threads", json={})
        assert (answer.status_code, answer.json()["detail"]) == (401, detail)
    answer = http("").post("/threads", json={}, headers={"Authorization": "Bearer zz"})
    assert (answer.status_code, answer.json()["detail"]) == (401, "bad token")
    tea = http("teapot").get("/threads/x")
    assert (tea.status_code, tea.json()["detail"], tea.headers["x-tea"]) == (
        418,
        "I am a teapot",
        "green",
    )
    assert int(tea.headers["content-length"]) == len(tea.content)
    with pytest.raises(AuthenticationError):
        user("alice-not").threads.search(headers={"Authorization": "Bearer none"})
    asserted = http("assert").get("/runs/crons/x")
    assert (asserted.status_code, asserted.json()["detail"]) == (401, "not here")


@pytest.mark.parametrize("name", ["broken", "nothing"])
def test_a_failure_lets_nobody_in_and_tells_nothing(http, guarded, name):
    answer = http(name).post("/threads", json={})
    assert (answer.status_code, answer.json()["code"]) == (500, "auth_handler_failed")
    assert "secret" not in answer.text
    assert "auth_handler_failed" in guarded.log()


def test_the_user_reaches_the_graph(user):
    alice = user("alice")
    thread = alice.threads.create()["thread_id"]
    seen = seen_by_graph(alice.runs.wait(thread, "agent", input={"messages": []}))
    assert seen["user"] == {
        "identity": "alice",
        "is_authenticated": True,
        "display_name": "Alice",
        "permissions": ["threads:read", "threads:write"],
        "org": "acme",
    }
    assert seen["by_attribute"] == seen["by_item"] == seen["auth_user_id"] == "alice"
    assert (seen["user_id"], seen["team"], seen["of_runtime"]) == ("alice", "acme", "Alice")
    assert seen["permissions"] == ["threads:read", "threads:write"]


def test_a_user_may_be_a_text_or_an_object(user):
    text = seen_by_graph(user("text").runs.wait(None, "agent", input={"messages": []}))
    assert text["user"]["identity"] == text["user"]["display_name"] == "text"
    member = seen_by_graph(user("member").runs.wait(None, "agent", input={"messages": []}))
    assert (member["team"], member["permissions"]) == ("green", ["read"])


def test_no_caller_can_be_another(http, user):
    forged = {
        "user_id": "bob",
        "langgraph_auth_user": {"identity": "bob"},
        "langgraph_auth_user_id": "bob",
        "langgraph_auth_permissions": ["all"],
        "langgraph_auth_more": "x",
    }
    for body in ({"config": {"configurable": forged}}, {"context": forged}):
        run = {"assistant_id": "agent", "input": {"messages": []}, **body}
        seen = seen_by_graph(http("alice").post("/runs/wait", json=run).json())
        assert (seen["user_id"], seen["auth_user_id"]) == ("alice", "alice")
        assert seen["user"]["identity"] == "alice"
        assert seen["others"] == [
            "langgraph_auth_permissions",
            "langgraph_auth_user",
            "langgraph_auth_user_id",
        ]
        context = seen["context"] or {}
        assert context.get("user_id") == "alice"
        assert not [key for key in context if key.startswith("langgraph_auth_")]
    # Also where an assistant has them.
    mine = user("alice").assistants.create("agent", config={"configurable": forged})
    seen = seen_by_graph(
        user("alice").runs.wait(None, mine["assistant_id"], input={"messages": []})
    )
    assert (seen["user_id"], seen["auth_user_id"]) == ("alice", "alice")


def test_a_run_is_shown_without_its_user(user, http):
    alice = user("alice")
    thread = alice.threads.create()["thread_id"]
    made = alice.runs.create(thread, "agent", input={"messages": []})
    assert "auth" not in made["kwargs"]
    alice.runs.join(thread, made["run_id"])
    assert "acme" not in http("alice").get(f"/threads/{thread}/runs").text


def test_a_receiver_of_a_webhook_is_told_a_run_without_its_user(user, http):
    """The object that ``authenticate`` returns may have tokens, and callers choose the receiver."""
    alice = user("alice")
    thread = alice.threads.create()["thread_id"]
    with hook_receiver() as receiver:
        url = receiver.url.replace("localhost", "127.0.0.1")
        run = alice.runs.create(thread, "agent", input={"messages": []}, webhook=url)
        wait_until(lambda: bool(receiver.received))
    told = receiver.received[0].json
    shown = http("alice").get(f"/threads/{thread}/runs/{run['run_id']}").json()
    assert (told["run_id"], told["kwargs"]) == (run["run_id"], shown["kwargs"])


def test_a_run_that_another_process_executes_has_its_user(user):
    alice = user("alice")
    thread = alice.threads.create()["thread_id"]
    # A run with a delay goes through the queue.
    run = alice.runs.create(thread, "agent", input={"messages": []}, after_seconds=1)
    seen = seen_by_graph(alice.runs.join(thread, run["run_id"]))
    assert (seen["user"]["org"], seen["user_id"]) == ("acme", "alice")


def test_the_runs_of_a_cron_have_the_user_who_made_it(user, guarded):
    alice = user("alice")
    cron = alice.crons.create("agent", schedule="* * * * *", input={"messages": []})
    assert (cron["user_id"], cron["metadata"]["owner"]) == ("alice", "alice")
    assert "auth" not in cron["payload"]
    with psycopg.connect(guarded.database_url) as database:
        ((auth,),) = database.execute(
            "SELECT auth FROM crons WHERE cron_id = %s", [cron["cron_id"]]
        ).fetchall()
    assert auth["user"]["org"] == "acme"
    alice.crons.delete(cron["cron_id"])


def test_a_route_of_the_app_knows_its_user(http):
    assert http("").get("/me").status_code == 401
    told = http("alice").post("/me", content=b"body")
    assert told.json() == {
        "identity": "alice",
        "org": "acme",
        "scopes": ["threads:read", "threads:write"],
        "body": "body",
    }


def test_a_client_that_leaves_cancels_the_handler(guarded, tmp_path):
    marks = tmp_path / "marks"
    url = urlsplit(guarded.url)
    with socket.create_connection((url.hostname, url.port)) as connection:
        lines = [
            "GET /threads/x HTTP/1.1",
            f"Host: {url.netloc}",
            f"Authorization: {token('slow')['Authorization']}",
            f"X-Marks: {marks}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    wait_until(marks.exists, seconds=5)


def test_the_description_tells_how_to_prove_who_one_is(http):
    described = http("").get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert described["security"] == [{"token": []}]
    assert described["paths"]["/ok"]["get"]["security"] == []


def test_the_start_tells_what_has_no_handler_and_counts_calls(guarded, http):
    assert "auth_handlers_loaded" in guarded.log()
    metrics = http("").get("/metrics").text
    assert 'headrace_auth_handler_calls_total{kind="authenticate",outcome="allowed"}' in metrics
