"""A thread's row says what its state says, also after a failed run; and edges find the store."""

import pytest

from tests.support.door import Door
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "0" * 32


async def waiting(door: Door, graph: str) -> str:
    thread_id = await door.thread()
    await door.wait(thread_id, graph, input={"x": "1"})
    return thread_id


async def agrees(door: Door, thread_id: str) -> tuple[str, list[str]]:
    """The thread's status, and what it waits for according to row, state and search."""
    thread, state = await door.get(thread_id), await door.state(thread_id)
    by_row = [
        {"value": one["value"], "id": one["id"]}
        for some in thread["interrupts"].values()
        for one in some
    ]
    assert sorted(by_row, key=str) == sorted(state["interrupts"], key=str)
    found = await door.post(
        "/threads/search", {"ids": [thread_id], "status": thread["status"], "values": {}}
    )
    assert found.json()[0]["interrupts"] == thread["interrupts"]
    return thread["status"], sorted(one["value"] for one in state["interrupts"])


@pytest.mark.parametrize("strict", [{}, {"strict_resume": True}], ids=["plain", "strict"])
async def test_a_resume_that_does_not_say_which_leaves_the_thread_waiting(door: Door, strict):
    thread_id = await waiting(door, "two")
    assert await agrees(door, thread_id) == ("interrupted", ["q1", "q2"])
    before = await door.state(thread_id)
    ran = await door.wait(thread_id, "two", command={"resume": "yes"}, **strict)
    if strict:
        assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused")
    else:
        assert ran.json()["__error__"]["error"] == "RuntimeError"
    assert await agrees(door, thread_id) == ("interrupted", ["q1", "q2"])
    assert (await door.get(thread_id))["error"] is None
    assert await door.state(thread_id) == before
    made = ["success"] if strict else ["error", "success"]
    assert [run["status"] for run in await door.runs(thread_id)] == made
    answers = {one["id"]: one["value"] for one in before["interrupts"]}
    ran = await door.wait(thread_id, "two", command={"resume": answers}, **strict)
    assert sorted(ran.json()["log"]) == ["q1:q1", "q2:q2"]
    assert await agrees(door, thread_id) == ("idle", [])


async def test_a_strict_resume_answers_only_what_waits(door: Door):
    thread_id = await waiting(door, "one")
    before = await door.get(thread_id)
    ran = await door.wait(
        thread_id, "one", command={"resume": {UNKNOWN: "yes"}}, strict_resume=True
    )
    assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused")
    after = await door.get(thread_id)
    for field in ("status", "interrupts", "error", "values"):
        assert after[field] == before[field]
    # Without it LangGraph passes over the answer.
    ran = await door.wait(thread_id, "one", command={"resume": {UNKNOWN: "yes"}})
    assert [one["value"] for one in ran.json()["__interrupt__"]] == ["q"]
    answered = await door.wait(thread_id, "one", command={"resume": "yes"}, strict_resume=True)
    assert answered.json()["log"] == ["q:yes"]


async def test_a_strict_resume_on_a_thread_at_rest_leaves_it_at_rest(door: Door):
    thread_id = await waiting(door, "none")
    ran = await door.wait(
        thread_id, "none", command={"resume": {UNKNOWN: "yes"}}, strict_resume=True
    )
    assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused")
    assert await agrees(door, thread_id) == ("idle", [])


async def test_info_tells_of_it(door: Door):
    assert (await door.http.get("/info")).json()["flags"]["strict_resume"] is True


async def test_a_node_that_failed_beside_one_that_asks_leaves_both(door: Door):
    thread_id = await waiting(door, "asks_and_fails")
    status, waits_for = await agrees(door, thread_id)
    assert (status, waits_for) == ("error", ["q"])
    assert (await door.get(thread_id))["error"]["message"] == "it failed"


async def test_a_cancelled_run_leaves_what_waits(door: Door, tmp_path):
    thread_id = await door.thread()
    body = {
        "assistant_id": "slow_and_asking",
        "input": {"x": "1", "gate": str(tmp_path / "never")},
        "stream_mode": "updates",
    }
    run = (await door.post(f"/threads/{thread_id}/runs", body)).json()
    await eventually(lambda: asks(door, thread_id))
    await door.post(f"/threads/{thread_id}/runs/{run['run_id']}/cancel?wait=1")
    assert await agrees(door, thread_id) == ("interrupted", ["q"])


async def asks(door: Door, thread_id: str) -> bool:
    return bool((await door.state(thread_id))["interrupts"])


@pytest.mark.parametrize("graph", ["branch_by_store", "branch_by_runtime"])
async def test_an_edge_behind_a_changed_node_finds_store_and_context(door: Door, graph):
    thread_id = await waiting(door, graph)
    changed = await door.post(
        f"/threads/{thread_id}/state", {"values": {"log": ["set"]}, "as_node": "first"}
    )
    assert changed.status_code == 200, changed.text
    state = await door.state(thread_id)
    assert (state["next"], state["values"]["log"]) == (["left"], ["first", "set"])
    made = await door.post(
        "/threads",
        {
            "metadata": {"graph_id": graph},
            "supersteps": [
                {"updates": [{"values": {"x": "1"}, "as_node": "__input__"}]},
                {"updates": [{"values": {"log": ["set"]}, "as_node": "first"}]},
            ],
        },
    )
    assert made.status_code == 200, made.text
    assert (await door.state(made.json()["thread_id"]))["next"] == ["left"]


async def test_the_context_is_the_one_that_the_last_run_was_configured_with(door: Door):
    thread_id = await door.thread()
    await door.wait(
        thread_id,
        "branch_by_runtime",
        input={"x": "1"},
        config={"configurable": {"model": "right"}},
    )
    await door.post(f"/threads/{thread_id}/state", {"values": {"x": "2"}, "as_node": "first"})
    assert (await door.state(thread_id))["next"] == ["right"]
