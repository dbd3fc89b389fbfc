"""What means something and would have no effect is refused with a sentence; else it is honoured."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.door import Door

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: A body's fields, and the word that the sentence has.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"webhook": "https://127.0.0.1/hook"}, "webhook"),
    ({"webhook": "/hook"}, "webhook"),
    ({"webhook": ["https://example.com/hook"]}, "webhook"),
    ({"feedback_keys": ["good"]}, "feedback_keys"),
    ({"langsmith_tracer": {"project_name": "mine"}}, "langsmith_tracer"),
    ({"thread_id": str(uuid4())}, "thread_id"),
    ({"checkpoint_during": False, "durability": "async"}, "checkpoint_during"),
    ({"checkpoint_during": True, "durability": "exit"}, "checkpoint_during"),
    ({"interrupt_before": ["nope"]}, "nope"),
    ({"interrupt_after": ["tell", "nope"]}, "nope"),
    ({"command": {}}, "command"),
    ({"command": {"zzz": 1}}, "command"),
    ({"command": {"resume": None}}, "command"),
    ({"command": {"resume": {}}}, "command"),
    ({"command": {"goto": []}}, "command"),
    ({"command": {"update": []}}, "command"),
    ({"command": {"update": {}, "goto": [], "resume": None}}, "command"),
    ({"command": {"update": "text"}}, "update"),
    ({"command": {"update": [1]}}, "update"),
    ({"command": {"update": [["x"]]}}, "update"),
    ({"command": {"update": [["x", 1], [1, "x"]]}}, "update"),
    ({"command": {"goto": 5}}, "goto"),
    ({"command": {"goto": [["tell"]]}}, "goto"),
    ({"command": {"goto": {"input": {}}}}, "goto"),
    ({"command": {"goto": {"node": 5}}}, "goto"),
    ({"command": {"goto": "nope"}}, "nope"),
    ({"command": {"goto": ["tell", {"node": "nope", "input": {}}]}}, "nope"),
    ({"command": {"graph": "__parent__", "update": {"x": "y"}}}, "graph"),
    ({"config": {"recursion_limit": "x"}}, "recursion_limit"),
    ({"config": {"recursion_limit": "7"}}, "recursion_limit"),
    ({"config": {"recursion_limit": 0}}, "recursion_limit"),
    ({"config": {"recursion_limit": -1}}, "recursion_limit"),
    ({"config": {"recursion_limit": 2.5}}, "recursion_limit"),
    ({"config": {"recursion_limit": True}}, "recursion_limit"),
    ({"config": {"recursion_limit": 1e30}}, "recursion_limit"),
    ({"config": {"recursion_limit": 10**9}}, "max_recursion_limit"),
    ({"config": {"max_concurrency": 10**9}}, "max_concurrency"),
    ({"config": {"callbacks": ["x"]}}, "callbacks"),
    ({"config": {"max_concurrency": -1}}, "max_concurrency"),
    ({"config": {"max_concurrency": "x"}}, "max_concurrency"),
    ({"config": {"max_concurrency": True}}, "max_concurrency"),
    ({"config": {"metadata": [1]}}, "metadata"),
    ({"config": {"tags": "x"}}, "tags"),
    ({"config": {"tags": [1]}}, "tags"),
    ({"config": {"configurable": [1]}}, "configurable"),
    ({"config": {"configurable": 0}}, "configurable"),
    ({"config": {"run_name": 5}}, "run_name"),
    ({"config": {"run_id": "1f0a0000-0000-4000-8000-000000000002"}}, "run_id"),
]
HONOURED: list[dict[str, Any]] = [
    {"webhook": None, "feedback_keys": None, "langsmith_tracer": None, "thread_id": None},
    {"webhook": "", "feedback_keys": [], "langsmith_tracer": {}},
    {"checkpoint_during": False, "durability": "exit"},
    {"checkpoint_during": True, "durability": "sync"},
    {"command": None},
    {"nobody_knows_this": 1},
    {"config": {"nobody_knows_this": 1}},
    {"config": {"recursion_limit": 10_000}},
    {"config": {"recursion_limit": 1e4}},
    {"config": {"recursion_limit": None, "max_concurrency": None, "tags": None, "metadata": None}},
    {"config": {"max_concurrency": 0, "callbacks": [], "run_name": "mine", "tags": ["a"]}},
    {"config": {"configurable": None}},
    {"interrupt_before": [], "interrupt_after": []},
]


@pytest.mark.parametrize("path", ["/threads/{t}/runs/wait", "/threads/{t}/runs/stream", "/runs"])
async def test_no_run_is_made_of_what_would_have_no_effect(door: Door, path):
    thread_id = await door.thread()
    for fields, word in REFUSED:
        body = {"assistant_id": "none", "input": {"x": "1"}, **fields}
        refused = await door.post(path.format(t=thread_id), body)
        assert refused.status_code == 422, (fields, refused.text)
        assert word in refused.json()["detail"], fields
    assert await door.runs(thread_id) == []


async def test_so_it_is_in_a_batch(door: Door):
    before = await door.threads()
    for fields, word in REFUSED:
        body = {"assistant_id": "none", "input": {"x": "1"}, **fields}
        refused = await door.post("/runs/batch", [body])
        assert refused.status_code == 422, fields
        assert word in refused.json()["detail"], fields
    assert await door.threads() == before


async def test_what_says_nothing_or_nobody_knows_does_no_harm(door: Door):
    for fields in HONOURED:
        body = {"assistant_id": "none", "input": {"x": "1"}, **fields}
        ran = await door.post("/runs/wait", body)
        assert ran.status_code == 200, (fields, ran.text)
        assert ran.json().get("log") == ["tell"], (fields, ran.text)


@pytest.mark.parametrize(
    "config", [fields["config"] for fields, _ in REFUSED if "config" in fields], ids=str
)
async def test_no_assistant_is_configured_like_that(door: Door, config):
    body = {"graph_id": "none", "config": config}
    assert (await door.post("/assistants", body)).status_code == 422
    made = (await door.post("/assistants", {"graph_id": "none"})).json()
    path = f"/assistants/{made['assistant_id']}"
    assert (await door.http.patch(path, json={"config": config})).status_code == 422
    assert (await door.http.get(path)).json() == made


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("checkpoint_id", "1f0a0000-0000-6000-8000-000000000001"),
        ("checkpoint_ns", "inner:1"),
        ("checkpoint_map", {"": "1f0a0000-0000-6000-8000-000000000001"}),
    ],
)
async def test_an_assistant_is_of_no_thread(door: Door, key, value):
    body = {"graph_id": "none", "config": {"configurable": {key: value}}}
    refused = await door.post("/assistants", body)
    assert refused.status_code == 422
    assert key in refused.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "path", "word"),
    [
        ({"on_completion": "delete"}, "/threads/{t}/runs/wait", "on_completion"),
        ({"on_disconnect": "cancel"}, "/threads/{t}/runs", "on_disconnect"),
        ({"on_disconnect": "cancel"}, "/runs", "on_disconnect"),
    ],
)
async def test_what_this_kind_of_run_has_not_is_refused(door: Door, fields, path, word):
    thread_id = await door.thread()
    body = {"assistant_id": "none", "input": {}, **fields}
    refused = await door.post(path.format(t=thread_id), body)
    assert (refused.status_code, word in refused.json()["detail"]) == (422, True)


async def test_the_store_has_no_semantic_index_and_says_so(door: Door):
    item = {"namespace": [str(uuid4())], "key": "k", "value": {"a": 1}}
    for refused_index in (["a"], True):
        refused = await door.http.put("/store/items", json={**item, "index": refused_index})
        assert (refused.status_code, "index" in refused.json()["detail"]) == (422, True)
    unset: list[dict[str, Any]] = [{}, {"index": False}, {"index": None}, {"index": []}]
    for said in unset:
        assert (await door.http.put("/store/items", json={**item, **said})).is_success
    search = {"namespace_prefix": item["namespace"]}
    refused = await door.post("/store/items/search", {**search, "query": "what"})
    assert (refused.status_code, "query" in refused.json()["detail"]) == (422, True)
    for query in ("", None):
        found = await door.post("/store/items/search", {**search, "query": query})
        assert len(found.json()["items"]) == 1


async def test_an_unknown_part_of_a_thread_is_refused(door: Door):
    thread_id = await door.thread()
    assert (await door.http.get(f"/threads/{thread_id}?include=ttl")).status_code == 200
    refused = await door.http.get(f"/threads/{thread_id}?include=ttl,zzz")
    assert (refused.status_code, "zzz" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    "update",
    [
        {"x": "u", "log": ["l"]},
        [["x", "u"], ["log", ["l"]]],
        [["x", "u"], ["log", []], ["log", ["l"]]],
    ],
    ids=["object", "pairs", "pairs with a key twice"],
)
async def test_an_update_may_be_a_list_of_pairs(door: Door, update):
    thread_id = await door.thread()
    await door.wait(thread_id, "one", input={"x": "1"})
    ran = await door.wait(thread_id, "one", command={"update": update})
    assert (ran.json()["x"], ran.json()["log"]) == ("u", ["l"])
    assert (await door.state(thread_id))["values"] == {"x": "u", "log": ["l"]}
    step = {"updates": [{"values": None, "command": {"update": update}, "as_node": "ask"}]}
    made = await door.post(
        "/threads",
        {
            "metadata": {"graph_id": "one"},
            "supersteps": [{"updates": [{"values": {"x": "1"}, "as_node": "__input__"}]}, step],
        },
    )
    assert made.json()["values"] == {"x": "u", "log": ["l"]}


@pytest.mark.parametrize(
    ("goto", "log"),
    [
        ("wait", ["wait:1"]),
        (["wait"], ["wait:1"]),
        ({"node": "wait", "input": {"x": "2"}}, ["wait:2"]),
        (["wait", {"node": "wait", "input": {"x": "2"}}], ["wait:1", "wait:2"]),
        ("__end__", []),
    ],
)
async def test_goto_is_honoured_in_each_of_its_forms(door: Door, goto, log):
    thread_id = await door.thread()
    await door.wait(thread_id, "one", input={"x": "1"})
    ran = await door.wait(thread_id, "one", command={"resume": "r"})
    ran = await door.wait(thread_id, "slow", command={"goto": goto})
    assert ran.json()["log"] == ["q:r", *log]


async def test_a_graph_that_is_made_for_the_run_tells_of_unknown_nodes_in_it(door: Door):
    ran = await door.wait(None, "made", input={}, interrupt_before=["nope"])
    assert "nope" in ran.json()["__error__"]["message"]


async def test_values_beside_a_command_are_refused(door: Door):
    update = {"values": {"x": "1"}, "command": {"update": {"x": "2"}}, "as_node": "ask"}
    body = {"metadata": {"graph_id": "one"}, "supersteps": [{"updates": [update]}]}
    assert (await door.post("/threads", body)).status_code == 422
