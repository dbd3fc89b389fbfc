"""``auth.on``: which rows a caller sees and makes, by the filters of handlers."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, PermissionDeniedError

from tests.auth.handlers.conftest import told

EMPTY: dict[str, Any] = {"messages": []}


@pytest.fixture
def mine(user):
    """A thread of Alice with one run."""
    alice = user("alice")
    thread = alice.threads.create(metadata={"k": 1})
    alice.runs.wait(thread["thread_id"], "agent", input=EMPTY)
    return thread


def test_a_handler_writes_the_owner_of_what_is_made(user, mine):
    alice = user("alice")
    assert mine["metadata"] == {"k": 1, "owner": "alice"}
    thread = alice.threads.get(mine["thread_id"])
    assert thread["metadata"]["owner"] == "alice"
    (run,) = alice.runs.list(mine["thread_id"])
    assert run["metadata"]["owner"] == "alice"
    assistant = alice.assistants.create("agent", name="Mine")
    assert assistant["metadata"] == {"owner": "alice"}


def test_a_run_makes_a_thread_that_its_caller_sees(user):
    thread = str(uuid4())
    forged = {"owner": "bob", "k": 1}
    user("alice").runs.wait(thread, "agent", input=EMPTY, if_not_exists="create", metadata=forged)
    metadata = user("alice").threads.get(thread)["metadata"]
    assert (metadata["owner"], metadata["k"]) == ("alice", 1)
    with pytest.raises(NotFoundError):
        user("bob").threads.get(thread)


@pytest.mark.parametrize("path", ["join", "stream"])
@pytest.mark.parametrize("of_thread", [True, False])
def test_who_may_read_a_thread_of_another_stops_no_run_by_leaving(user, http, path, of_thread):
    thread = user("alice").threads.create(metadata={"members": ["carol"]})["thread_id"]
    waits = {"messages": [{"role": "user", "content": "wait"}]}
    run = user("alice").runs.create(thread, "agent", input=waits)["run_id"]
    url = f"/threads/{thread}/runs/{run}/{path}" if of_thread else f"/runs/{run}/{path}"
    carol = http("carol")
    assert carol.get(f"/threads/{thread}").status_code == 200
    answer = carol.get(url, params={"cancel_on_disconnect": True})
    assert answer.status_code == 404, answer.text
    assert http("bob").get(url, params={"cancel_on_disconnect": True}).status_code == 404
    with http("alice").stream("GET", url, params={"cancel_on_disconnect": True}) as own:
        assert own.status_code == 200
    with pytest.raises(NotFoundError):
        user("bob").runs.cancel(thread, run)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs/wait", {"assistant_id": "agent", "input": EMPTY}),
        ("/runs/stream", {"assistant_id": "agent", "input": EMPTY}),
        ("/runs", {"assistant_id": "agent", "input": EMPTY}),
    ],
)
@pytest.mark.parametrize("lasting", [True, False])
def test_a_repeated_request_is_asked_about_again(http, path, body, lasting):
    leaver = http("leaver")
    if lasting:
        path = f"/threads/{leaver.post('/threads', json={}).json()['thread_id']}{path}"
    else:
        body = {**body, "on_completion": "keep"}

    def send(**headers):
        return leaver.post(path, json=body, headers={"Idempotency-Key": key, **headers})

    key = str(uuid4())
    first, again = send(), send()
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["Content-Location"] == first.headers["Content-Location"]
    assert send(**{"x-left": "all"}).status_code == 403
    assert send(**{"x-left": "team"}).status_code == 404


def test_a_foreign_thread_is_not_there(user, http, mine):
    thread, bob = mine["thread_id"], http("bob")
    (run,) = user("alice").runs.list(thread)
    run_id = run["run_id"]
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"metadata": {"z": 1}}),
        ("DELETE", "", None),
        ("GET", "/state", None),
        ("POST", "/state", {"values": EMPTY}),
        ("POST", "/state/checkpoint", {"checkpoint": {"thread_id": thread}}),
        ("GET", "/history", None),
        ("POST", "/history", {}),
        ("GET", "/storage", None),
        ("GET", "/runs", None),
        ("POST", "/runs", {"assistant_id": "agent", "input": EMPTY}),
        ("POST", "/runs/wait", {"assistant_id": "agent", "input": EMPTY}),
        (
            "POST",
            "/runs/wait",
            {"assistant_id": "agent", "input": EMPTY, "if_not_exists": "create"},
        ),
        ("POST", "/runs/stream", {"assistant_id": "agent", "input": EMPTY}),
        ("GET", f"/runs/{run_id}", None),
        ("GET", f"/runs/{run_id}/join", None),
        ("GET", f"/runs/{run_id}/stream", None),
        ("GET", f"/runs/{run_id}/timeline", None),
        ("POST", f"/runs/{run_id}/cancel", None),
        ("DELETE", f"/runs/{run_id}", None),
        ("POST", "/runs/crons", {"assistant_id": "agent", "schedule": "0 9 * * *", "input": EMPTY}),
    ):
        answer = bob.request(method, f"/threads/{thread}{path}", json=body)
        assert answer.status_code == 404, (method, path, answer.text)
    for path in (f"/runs/{run_id}/join", f"/runs/{run_id}/stream"):
        assert bob.get(path).status_code == 404
    assert user("alice").threads.get(thread)["metadata"] == {
        **mine["metadata"],
        "graph_id": "agent",
        "assistant_id": "fe096781-5601-53d2-b2f6-0d3403f7e9ca",
    }


def test_a_foreign_id_is_taken(user, http, mine):
    for if_exists in ("raise", "do_nothing"):
        with pytest.raises(ConflictError):
            user("bob").threads.create(thread_id=mine["thread_id"], if_exists=if_exists)
    copied = http("bob").post(f"/threads/{mine['thread_id']}/copy")
    assert copied.status_code == 409
    assert http("alice").post(f"/threads/{mine['thread_id']}/copy").status_code == 200


def test_a_copy_has_what_the_handler_for_create_wants(user, http):
    """Carol reads a thread of Alice's that she is a member of; a copy of it is hers."""
    shared = user("alice").threads.create(metadata={"members": ["carol"], "k": 2})["thread_id"]
    copy = http("carol").post(f"/threads/{shared}/copy").json()
    assert copy["metadata"] == {"members": ["carol"], "k": 2, "owner": "carol"}
    with pytest.raises(NotFoundError):
        user("alice").threads.get(copy["thread_id"])


def test_an_id_that_is_taken_shows_its_row_only_to_who_may_read_it(user, mine):
    """Its handler for ``create`` has no filter, as many have none."""
    stamper, alice = user("stamper"), user("alice")
    with pytest.raises(ConflictError):
        stamper.threads.create(thread_id=mine["thread_id"], if_exists="do_nothing")
    assistant = alice.assistants.create("agent")["assistant_id"]
    with pytest.raises(ConflictError):
        stamper.assistants.create("agent", assistant_id=assistant, if_exists="do_nothing")
    own = stamper.threads.create()["thread_id"]
    again = stamper.threads.create(thread_id=own, if_exists="do_nothing")
    assert (again["thread_id"], again["metadata"]) == (own, {"owner": "stamper"})


def test_searches_omit_foreign_rows(user, mine):
    alice, bob = user("alice"), user("bob")
    ids = [one["thread_id"] for one in alice.threads.search(limit=100)]
    assert mine["thread_id"] in ids
    found = bob.threads.search(limit=100, metadata={"owner": "alice"})
    assert [one for one in found if one["metadata"]["owner"] != "bob"] == []
    assert bob.threads.count(metadata={"k": 1}) == 0
    cron = alice.crons.create("agent", schedule="0 9 * * *", input=EMPTY)
    assert cron["cron_id"] in [one["cron_id"] for one in alice.crons.search(limit=100)]
    assert bob.crons.search(limit=100) == []
    for call in (lambda: bob.crons.delete(cron["cron_id"]),):
        with pytest.raises(NotFoundError):
            call()
    alice.crons.delete(cron["cron_id"])


def test_a_foreign_assistant_runs_for_nobody_else(user, http):
    mine = user("alice").assistants.create("agent", name=f"Secret {uuid4()}")
    bob = user("bob")
    for call in (
        lambda: bob.assistants.get(mine["assistant_id"]),
        lambda: bob.runs.wait(None, mine["assistant_id"], input=EMPTY),
        lambda: bob.crons.create(mine["assistant_id"], schedule="0 9 * * *", input=EMPTY),
        lambda: bob.assistants.update(mine["assistant_id"], name="Bob's"),
        lambda: bob.assistants.delete(mine["assistant_id"]),
    ):
        # The SDK has no error of its own for a wait.
        with pytest.raises(httpx.HTTPStatusError) as refused:
            call()
        assert refused.value.response.status_code == 404
    assert bob.assistants.search(name=mine["name"]) == []
    assert user("alice").runs.wait(None, mine["assistant_id"], input=EMPTY)["messages"]


def test_a_filter_may_want_a_member_of_a_list(user):
    alice, carol = user("alice"), user("carol")
    shared = alice.threads.create(metadata={"members": ["bob", "carol"]})["thread_id"]
    private = alice.threads.create(metadata={"members": ["bob"]})["thread_id"]
    assert carol.threads.get(shared)["thread_id"] == shared
    with pytest.raises(NotFoundError):
        carol.threads.get(private)


def test_a_run_is_not_made_in_another_way_than_its_handler_says(user, http):
    """A change that would be ignored is refused."""
    thread = user("hurried").threads.create()["thread_id"]
    body = {"assistant_id": "agent", "input": EMPTY}
    for path in (f"/threads/{thread}/runs/wait", "/runs/wait"):
        answer = http("hurried").post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (500, "auth_handler_failed")
        assert "multitask_strategy" in answer.json()["detail"]


def test_false_is_forbidden_and_a_wrong_filter_is_no_filter(user, http):
    with pytest.raises(PermissionDeniedError) as refused:
        user("denied").threads.search()
    assert refused.value.response.json()["detail"] == "Forbidden"
    assert http("denied").post("/threads", json={}).json()["detail"] == "Forbidden"
    broken = http("broken-on").get(f"/threads/{uuid4()}")
    assert (broken.status_code, broken.json()["code"]) == (500, "auth_handler_failed")
    refused_with = http("teller").get(f"/threads/{uuid4()}")
    assert told(refused_with)["action"] == "threads.read"
    assert refused_with.headers["x-told"] == "yes"


def test_a_handler_rewrites_namespaces(user, http):
    alice, bob = user("alice"), user("bob")
    alice.store.put_item(["n"], "k", {"a": 1})
    item = alice.store.get_item(["n"], "k")
    assert (item["namespace"], item["value"]) == (["alice", "n"], {"a": 1})
    assert http("bob").get("/store/items", params={"namespace": "n", "key": "k"}).json() is None
    assert [one["namespace"] for one in alice.store.search_items([])["items"]] == [["alice", "n"]]
    assert bob.store.search_items([])["items"] == []
    assert alice.store.list_namespaces()["namespaces"] == [["alice", "n"]]
    assert bob.store.list_namespaces()["namespaces"] == []
    bob.store.delete_item(["n"], "k")
    assert alice.store.get_item(["n"], "k")["value"] == {"a": 1}


def test_a_filter_for_the_store_lets_nobody_in(http):
    put = {"namespace": ["n"], "key": "k", "value": {}}
    for answer in (
        http("filters").put("/store/items", json=put),
        http("filters").post("/store/items/search", json={}),
    ):
        assert answer.status_code == 403
        assert "value['namespace']" in answer.json()["detail"]
    body = {"namespace": ["n"], "key": "k"}
    kept = http("keeper").request("DELETE", "/store/items", json=body)
    assert (kept.status_code, kept.json()["detail"]) == (403, "keepers keep")


def test_a_foreign_thread_takes_no_command_and_tells_no_event(http, mine):
    thread = mine["thread_id"]
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": EMPTY}}
    started = http("alice").post(f"/threads/{thread}/commands", json=command).json()
    http("alice").get(f"/threads/{thread}/runs/{started['result']['run_id']}/join")
    answer = http("bob").post(f"/threads/{thread}/commands", json=command).json()
    assert (answer["type"], answer["error"]) == ("error", "unknown_error")
    channels = {"channels": ["values", "lifecycle"], "since": 0}
    assert lines_of(http("bob"), thread, channels) == []
    assert [line for line in lines_of(http("alice"), thread, channels) if "data:" in line]


def lines_of(client, thread, channels):
    """The lines of the first second of a stream of events."""
    lines = []
    events = f"/threads/{thread}/stream/events"
    with (
        suppress(httpx.ReadTimeout),
        client.stream("POST", events, json=channels, timeout=1) as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            lines.append(line)  # noqa: PERF402 - what came before the end counts
    return lines


def test_two_users_may_use_one_idempotency_key(http):
    key = {"Idempotency-Key": str(uuid4())}
    run = {"assistant_id": "agent", "input": EMPTY}
    ids = set()
    for name in ("alice", "bob", "alice"):
        answer = http(name).post("/runs/wait", json=run, headers=key)
        assert answer.status_code == 200, answer.text
        ids.add(answer.headers["content-location"])
        assert f'\\"identity\\": \\"{name}\\"' in answer.text
    assert len(ids) == 2
    threads = {http(name).post("/threads", json={}, headers=key).text for name in ("alice", "bob")}
    assert len(threads) == 2


def test_the_doors_see_rows_of_their_caller_alone(http, user):
    mine = user("alice").assistants.create("agent", name=f"Door {uuid4()}")["assistant_id"]
    models = http("bob").get("/v1/models").json()["data"]
    assert mine not in [one["id"] for one in models]
    assert http("bob").get(f"/v1/models/{mine}").status_code == 404
    chat = {"model": mine, "messages": [{"role": "user", "content": "hi"}]}
    assert http("bob").post("/v1/chat/completions", json=chat).status_code == 404
    assert http("alice").post("/v1/chat/completions", json=chat).status_code == 200
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": mine, "arguments": EMPTY},
    }
    assert "Unknown tool" in http("bob").post("/mcp", json=call).text
    said = http("alice").post("/chat", json={"message": "hi"}).json()
    assert '"identity": "alice"' in said["reply"]
    resumed = http("bob").post("/chat", json={"thread_id": said["thread_id"], "resume": "x"})
    assert resumed.status_code == 404
    joined = http("bob").post("/chat", json={"thread_id": said["thread_id"], "message": "hi"})
    assert joined.status_code == 404
