"""What is too much for one request is refused at once, with a sentence, and the loop goes on."""

import psycopg
import pytest

from tests.support.door import Door
from tests.support.stalls import longest_stall

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 1024 * 1024


async def send(door: Door, path: str, body: bytes, method: str = "POST"):
    headers = {"content-type": "application/json"}
    return await door.http.request(method, path, content=body, headers=headers)


LONG = b"[" + b"1," * 400_000 + b"1]"
RUN = b'{"assistant_id": "none", "input": {}, '


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads/search", b'{"select": %b}' % LONG),
        ("/threads/search", b'{"ids": %b}' % LONG),
        ("/threads/count", b'{"ids": %b}' % LONG),
        ("/threads/prune", b'{"thread_ids": %b}' % LONG),
        ("/threads", b'{"metadata": {"graph_id": "none"}, "supersteps": %b}' % LONG),
        ("/threads", b'{"supersteps": [{"updates": %b}]}' % LONG),
        ("/runs", RUN + b'"stream_mode": %b}' % LONG),
        ("/runs/wait", RUN + b'"interrupt_before": %b}' % LONG),
        ("/runs/stream", RUN + b'"interrupt_after": %b}' % LONG),
        ("/runs/batch", b"[" + b"{}," * 90_000 + b"{}]"),
        ("/runs/batch", b"[" + b",".join([RUN + b'"stream_mode": [1,1]}'] * 100) + b"]"),
        ("/runs/cancel", b'{"run_ids": %b}' % LONG),
        ("/assistants/search", b'{"select": %b}' % LONG),
        ("/store/items/search", b'{"namespace_prefix": %b}' % LONG),
        (
            "/store/namespaces",
            b'{"prefix": %b, "suffix": %b}' % (LONG[:400_000] + b"1]", LONG[:400_000] + b"1]"),
        ),
        ("/threads/{t}/history", b'{"select": %b}' % LONG),
        ("/threads/{t}/state/checkpoint", b'{"checkpoint": {}, "select": %b}' % LONG),
        ("/threads/{t}/runs", RUN + b'"command": {"goto": %b}}' % LONG),
        ("/threads/{t}/runs", RUN + b'"command": {"update": %b}}' % LONG),
    ],
)
async def test_lists_of_any_length_cost_nothing_and_few_errors_are_told(door: Door, path, body):
    thread_id = await door.thread()
    async with longest_stall() as stall:
        answer = await send(door, path.format(t=thread_id), body)
    assert answer.status_code == 422
    assert len(answer.content) < 16 * 1024
    assert answer.json()["detail"].count("; ") <= 20
    assert stall[0] < 1.5


async def test_of_many_errors_twenty_are_told_each_shortened(door: Door):
    extract = {f"{'k' * 250}{n}": "x" * 900 for n in range(10)}
    body = {
        "extract": extract,
        "limit": "x" * 100_000,
        "offset": -1,
        "status": "y" * 100_000,
        "sort_by": "z" * 100_000,
    }
    detail = (await door.post("/threads/search", body)).json()["detail"]
    assert "limit" in detail
    assert len(detail) < 20 * 700
    refused = await door.http.get("/assistants/" + "a" * 990)
    assert refused.status_code == 422
    filtered = await door.post("/store/items/search", {"filter": {"a" * 60_000: {"$no": 1}}})
    assert filtered.status_code == 422
    assert len(filtered.content) < 20 * 1024


# It has a bound on time.
@pytest.mark.alone
@pytest.mark.parametrize(
    "values", [b"[]," * 2_000_000, b"{}," * 2_000_000, b"1," * 3_500_000, b'"",' * 2_000_000]
)
async def test_a_body_of_millions_of_values_is_refused_off_the_loop(door: Door, values):
    body = b'{"assistant_id": "none", "input": [%b1]}' % values
    async with longest_stall() as stall:
        answer = await send(door, "/runs/wait", body)
    assert (answer.status_code, "max_body_values" in answer.text) == (422, True)
    assert stall[0] < 1.5


async def test_brackets_in_texts_are_no_values(door: Door):
    text = "[{" * 300_000 + '\\"' * 1000
    answer = await door.post("/runs/wait", {"assistant_id": "none", "input": {"x": text}})
    assert answer.status_code == 200


NESTED = {"a": [[number] for number in range(101)]}
DEEP: object = 1
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads/search", {"metadata": NESTED}),
        ("/threads/search", {"values": NESTED}),
        ("/threads/count", {"metadata": NESTED}),
        ("/threads/count", {"values": NESTED}),
        ("/assistants/search", {"metadata": NESTED}),
        ("/assistants/count", {"metadata": NESTED}),
        ("/assistants/none/versions", {"metadata": NESTED}),
        ("/threads/{t}/history", {"metadata": NESTED}),
        ("/store/items/search", {"filter": {"a": {"$eq": NESTED["a"]}}}),
        ("/threads/search", {"metadata": {"a": DEEP}}),
        ("/threads/count", {"values": {"a": DEEP}}),
        ("/assistants/count", {"metadata": {"a": "x" * 300_000}}),
        ("/threads/count", {"metadata": {str(n): n for n in range(600)}}),
        ("/store/items/search", {"filter": {str(n): n for n in range(30)}}),
    ],
)
async def test_a_filter_is_small(door: Door, path, body):
    thread_id = await door.thread()
    answer = await door.post(path.format(t=thread_id), body)
    assert answer.status_code == 422, answer.text
    assert "filter" in answer.text or "metadata" in answer.text or "values" in answer.text


LARGE = {"blob": "x" * 100_000}
MANY = {"a": [[n] for n in range(8000)]}


async def test_metadata_and_configurations_are_small(door: Door):
    thread_id = await door.thread()
    run = {"assistant_id": "none", "input": {"x": "1"}}
    for path, body in [
        ("/threads", {"metadata": LARGE}),
        ("/threads", {"metadata": MANY}),
        ("/runs/wait", {**run, "metadata": LARGE}),
        (f"/threads/{thread_id}/runs", {**run, "metadata": LARGE}),
        ("/runs/batch", [{**run, "metadata": LARGE}]),
        ("/runs/wait", {**run, "config": {"metadata": LARGE}}),
        ("/runs/wait", {**run, "config": {"configurable": {"blob": "x" * 3 * MEGABYTE}}}),
        ("/runs/wait", {**run, "config": {"tags": ["x" * 1000] * 3000}}),
        ("/runs/wait", {**run, "context": {"model": "x" * 3 * MEGABYTE}}),
        ("/runs/wait", {**run, "config": {"recursion_limit": 1e9}}),
        ("/assistants", {"graph_id": "none", "metadata": LARGE}),
        ("/assistants", {"graph_id": "none", "context": {"b": "x" * 3 * MEGABYTE}}),
        ("/assistants", {"graph_id": "none", "config": {"recursion_limit": 10**9}}),
    ]:
        answer = await door.post(path, body)
        assert answer.status_code == 422, (path, answer.text[:200])
        assert "setting requests.max" in answer.text or "values" in answer.text
    assert await door.runs(thread_id) == []


async def test_metadata_does_not_grow_by_what_is_merged_into_it(door: Door):
    thread_id = await door.thread()
    statuses = [
        (
            await door.http.patch(
                f"/threads/{thread_id}", json={"metadata": {str(n): "x" * 60_000}}
            )
        ).status_code
        for n in range(4)
    ]
    assert statuses == [200, 200, 422, 422]
    assert (await door.http.patch(f"/threads/{thread_id}", json={"ttl": {"ttl": 5}})).is_success
    made = (await door.post("/assistants", {"graph_id": "none"})).json()["assistant_id"]
    statuses = [
        (
            await door.http.patch(f"/assistants/{made}", json={"metadata": {str(n): "x" * 60_000}})
        ).status_code
        for n in range(3)
    ]
    assert statuses == [200, 422, 422]


# It has a bound on time.
@pytest.mark.alone
async def test_a_filter_against_a_long_list_takes_no_time_of_the_loop(door: Door):
    thread_id = await door.thread()
    log = [str(n) for n in range(50_000)]
    assert (await door.wait(thread_id, "none", input={"log": log})).status_code == 200
    async with longest_stall() as stall:
        found = await door.post(
            "/threads/search", {"ids": [thread_id], "values": {"log": log[-100:]}}
        )
        assert [one["thread_id"] for one in found.json()] == [thread_id]
        absent = await door.post("/threads/count", {"values": {"log": ["nowhere"]}})
        assert absent.json() == 0
    assert stall[0] < 1.5


# It has a bound on time.
@pytest.mark.alone
async def test_a_filter_that_compares_too_much_is_refused(door: Door):
    thread_id = await door.thread()
    seen = [[n] for n in range(50_000)]
    body = {"values": {"seen": seen}, "as_node": "tell"}
    await door.wait(thread_id, "none", input={"x": "1"})
    assert (await door.post(f"/threads/{thread_id}/state", body)).status_code == 200
    wanted = {"seen": [[n] for n in range(49_900, 50_000)]}
    async with longest_stall() as stall:
        for path in ("/threads/search", "/threads/count"):
            answer = await door.post(path, {"ids": [thread_id], "values": wanted})
            assert (answer.status_code, "max_comparisons" in answer.text) == (422, True)
    assert stall[0] < 1.5
    found = await door.post("/threads/count", {"ids": [thread_id], "values": {"seen": [[49_999]]}})
    assert found.json() == 1


async def test_the_same_state_ten_times_over_is_not_extracted(door: Door):
    thread_id = await door.thread()
    await door.wait(thread_id, "none", input={"x": "x" * 4 * MEGABYTE})
    extract = {str(n): "values" for n in range(10)}
    body = {"ids": [thread_id], "extract": extract, "select": ["thread_id"]}
    answer = await door.post("/threads/search", body)
    assert (answer.status_code, "extract" in answer.text) == (422, True)


SECRET = "canary-of-configurable"


async def test_no_checkpoint_holds_what_a_graph_is_configured_with(
    door: Door, module_database: str
):
    thread_id = await door.thread()
    config = {
        "configurable": {"password": SECRET, "api_key": SECRET, "model": SECRET},
        "metadata": {"ticket": "T-1"},
    }
    ran = await door.wait(
        thread_id,
        "none",
        input={"x": "1"},
        config=config,
        metadata={"note": "n" * 2000, "kind": "a"},
    )
    assert ran.status_code == 200
    await door.wait(thread_id, "plain", input={"x": "1"}, context={"model": SECRET})
    await door.post(f"/threads/{thread_id}/state", {"values": {"x": "2"}, "as_node": "tell"})
    with psycopg.connect(module_database) as connection:
        rows = connection.execute(
            "SELECT metadata::text FROM checkpoints WHERE thread_id = %s", (thread_id,)
        ).fetchall()
        assert len(rows) > 5
        assert not [row for row in rows if SECRET in row[0] or "nnnn" in row[0]]
    history = f"/threads/{thread_id}/history"
    for wanted in ({"ticket": "T-1"}, {"kind": "a"}, {"graph_id": "none"}):
        found = (await door.post(history, {"metadata": wanted, "limit": 10})).json()
        assert found, wanted
        assert {"run_id", "assistant_id", "step", "source"} <= found[0]["metadata"].keys()
