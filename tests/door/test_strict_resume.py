"""Answers to interrupts are checked before a run is made, and again when it starts."""

import asyncio

import pytest

from tests.support.door import Door, open_door
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "0" * 32


async def waiting(door: Door, graph: str) -> tuple[str, dict[str, str]]:
    """A thread of the graph, and the ids of what it waits for, by question."""
    thread_id = await door.thread()
    await door.wait(thread_id, graph, input={"x": "1"})
    return thread_id, await asked(door, thread_id)


async def asked(door: Door, thread_id: str) -> dict[str, str]:
    return {one["value"]: one["id"] for one in (await door.state(thread_id))["interrupts"]}


async def refused(door: Door, thread_id: str, graph: str, resume, **more) -> str:
    """The detail of the refusal; no run was made."""
    before = len(await door.runs(thread_id))
    ran = await door.wait(
        thread_id, graph, **{"command": {"resume": resume}, "strict_resume": True, **more}
    )
    assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused"), ran.text
    assert len(await door.runs(thread_id)) == before
    return str(ran.json()["detail"])


@pytest.mark.parametrize("resume", ["yes", {"approve": True}, {UNKNOWN: 1}])
async def test_a_refusal_names_what_waits(door: Door, resume):
    thread_id, ids = await waiting(door, "two")
    before = await door.get(thread_id)
    told = await refused(door, thread_id, "two", resume)
    assert f"{ids['q1']} (node ask1)" in told
    assert f"{ids['q2']} (node ask2)" in told
    assert await door.get(thread_id) == before
    ran = await door.wait(
        thread_id, "two", command={"resume": {ids["q1"]: "a"}}, strict_resume=True
    )
    assert ran.json()["log"] == ["q1:a"] or ran.json()["__interrupt__"][0]["id"] == ids["q2"]
    # An answered one does not wait any more.
    assert ids["q2"] in await refused(door, thread_id, "two", {ids["q1"]: "again"})
    ran = await door.wait(thread_id, "two", command={"resume": "b"}, strict_resume=True)
    assert sorted(ran.json()["log"]) == ["q1:a", "q2:b"]


async def test_an_interrupt_of_a_subgraph_waits_too(door: Door):
    thread_id, ids = await waiting(door, "asks_below")
    assert f"{ids['q']} (node below)" in await refused(door, thread_id, "asks_below", {UNKNOWN: 1})
    ran = await door.wait(
        thread_id, "asks_below", command={"resume": {ids["q"]: "a"}}, strict_resume=True
    )
    assert ran.json()["log"] == ["q:a"]


async def test_a_thread_that_waits_for_nothing_or_is_not_there(door: Door):
    thread_id, _ = await waiting(door, "none")
    assert "no interrupt waits" in await refused(door, thread_id, "none", "yes")
    unknown = "11111111-1111-4111-8111-111111111111"
    resume = {"command": {"resume": "yes"}, "strict_resume": True}
    assert (await door.wait(unknown, "one", **resume)).status_code == 404
    ran = await door.wait(unknown, "one", **resume, if_not_exists="create")
    assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused")
    assert (await door.http.get(f"/threads/{unknown}")).status_code == 404


async def test_a_static_interrupt_has_no_id(door: Door):
    thread_id = await door.thread()
    await door.wait(thread_id, "one", input={"x": "1"}, interrupt_before=["ask"])
    assert "stands before ask" in await refused(door, thread_id, "one", "yes")


async def test_a_named_checkpoint_has_interrupts_of_its_own(door: Door):
    thread_id, ids = await waiting(door, "one")
    before = (await door.state(thread_id))["checkpoint_id"]
    await door.wait(thread_id, "one", command={"resume": {ids["q"]: "a"}})
    # At the head nothing waits; from the checkpoint before, the question is asked again.
    await refused(door, thread_id, "one", {ids["q"]: "b"})
    assert ids["q"] in await refused(door, thread_id, "one", {UNKNOWN: 1}, checkpoint_id=before)
    # The branch is the one that LangGraph makes without the check.
    for resume in ({ids["q"]: "b"}, "b"):
        branches = [
            await door.wait(
                thread_id,
                "one",
                command={"resume": resume},
                strict_resume=strict,
                checkpoint_id=before,
            )
            for strict in (True, False)
        ]
        assert branches[0].status_code == 200
        assert branches[0].json() == branches[1].json()


@pytest.mark.parametrize("resume", ["yes", {UNKNOWN: "yes"}])
async def test_a_run_that_waits_is_checked_when_it_starts(door: Door, tmp_path, resume):
    thread_id = await door.thread()
    gate = tmp_path / "gate"
    await door.post(
        f"/threads/{thread_id}/runs",
        {"assistant_id": "slow", "input": {"x": "1", "gate": str(gate)}},
    )
    answer = asyncio.create_task(
        door.wait(thread_id, "slow", command={"resume": resume}, strict_resume=True)
    )

    async def queued() -> bool:
        return len(await door.runs(thread_id)) == 2

    await eventually(queued)
    gate.touch()
    error = (await answer).json()["__error__"]
    assert error["error"] == "ResumeRefused"
    assert "no interrupt waits" in error["message"]
    thread = await door.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)
    assert [run["status"] for run in await door.runs(thread_id)] == ["error", "success"]


async def test_a_queued_answer_is_judged_by_what_waits_at_its_turn(door: Door, tmp_path):
    """The run before it asks: what did not wait when the answer came waits when it starts."""
    thread_id, gate = await door.thread(), tmp_path / "gate"
    first = await door.post(
        f"/threads/{thread_id}/runs",
        {"assistant_id": "slow_and_asking", "input": {"x": "1", "gate": str(gate)}},
    )

    async def asks() -> bool:
        return bool(await asked(door, thread_id))

    await eventually(asks)
    answer = asyncio.create_task(
        door.wait(thread_id, "slow_and_asking", command={"resume": "yes"}, strict_resume=True)
    )

    async def queued() -> bool:
        return len(await door.runs(thread_id)) == 2

    await eventually(queued)
    gate.touch()
    assert "q:yes" in (await answer).json()["log"]
    run = await door.http.get(f"/threads/{thread_id}/runs/{first.json()['run_id']}")
    assert run.json()["status"] == "success"


async def test_a_delayed_answer_is_checked_when_it_starts(door: Door):
    thread_id, _ = await waiting(door, "two")
    ran = await door.wait(
        thread_id, "two", command={"resume": "yes"}, strict_resume=True, after_seconds=0.2
    )
    assert ran.json()["__error__"]["error"] == "ResumeRefused"
    assert (await door.get(thread_id))["status"] == "interrupted"


async def test_a_retry_with_its_key_gets_the_first_answer(door: Door):
    thread_id, ids = await waiting(door, "one")
    body = {"assistant_id": "one", "command": {"resume": {ids["q"]: "a"}}, "strict_resume": True}
    path, key = f"/threads/{thread_id}/runs/wait", {"Idempotency-Key": "once"}
    first = await door.post(path, body, **key)
    again = await door.post(path, body, **key)
    assert first.json()["log"] == again.json()["log"] == ["q:a"]
    assert first.headers["content-location"] == again.headers["content-location"]
    # A refusal is not remembered: the key may be used once the thread waits.
    other = {"Idempotency-Key": "twice"}
    assert (await door.post(path, body, **other)).status_code == 409
    await door.wait(thread_id, "one", input={"x": "2"})
    (waits,) = (await asked(door, thread_id)).values()
    body["command"] = {"resume": {waits: "b"}}
    assert (await door.post(path, body, **other)).json()["log"] == ["q:a", "q:b"]


async def test_the_stream_and_background_routes_refuse_too(door: Door):
    thread_id, _ = await waiting(door, "two")
    body = {"assistant_id": "two", "command": {"resume": "yes"}, "strict_resume": True}
    for path in ("/runs", "/runs/stream"):
        ran = await door.post(f"/threads/{thread_id}{path}", body)
        assert (ran.status_code, ran.json()["code"]) == (409, "resume_refused")
    assert len(await door.runs(thread_id)) == 1


async def test_a_setting_makes_it_the_default(database_url, tmp_path):
    async with open_door(database_url, tmp_path, requests={"strict_resume": True}) as door:
        thread_id, ids = await waiting(door, "one")
        assert ids["q"] in await refused(door, thread_id, "one", {UNKNOWN: 1}, strict_resume=None)
        # A run may ask not to be checked.
        ran = await door.wait(
            thread_id, "one", command={"resume": {UNKNOWN: 1}}, strict_resume=False
        )
        assert ran.status_code == 200
        plain = await door.wait(thread_id, "one", input={"x": "2"})
        assert plain.status_code == 200
        (waits,) = (await asked(door, thread_id)).values()
        ran = await door.wait(thread_id, "one", command={"resume": {waits: "a"}})
        assert ran.json()["log"] == ["q:a"]
