"""The checkpoint that a run names: there, the head, one that is not there, another thread's."""

from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.support.door import Door
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABSENT = "1f0a0000-0000-6000-8000-000000000001"
WAYS = {
    "checkpoint_id": lambda value: {"checkpoint_id": value},
    "checkpoint": lambda value: {"checkpoint": {"checkpoint_id": value}},
    "config": lambda value: {"config": {"configurable": {"checkpoint_id": value}}},
}
in_each_way = pytest.mark.parametrize("name", WAYS.values(), ids=WAYS)
NOT_IDS: list[Any] = ["zz", 5, [1], {"a": 1}, True, "0192f6a8"]


async def started(door: Door) -> str:
    thread_id = await door.thread()
    await door.wait(thread_id, "none", input={"x": "first"})
    return thread_id


@in_each_way
@pytest.mark.parametrize("path", ["runs/wait", "runs/stream", "runs"])
async def test_one_that_is_not_there_is_404_and_nothing_changes(door: Door, name, path):
    thread_id = await started(door)
    before = await door.state(thread_id)
    body = {"assistant_id": "none", "input": {"x": "second"}, **name(ABSENT)}
    for more in ({}, {"after_seconds": 60}, {"if_not_exists": "create"}):
        refused = await door.post(f"/threads/{thread_id}/{path}", {**body, **more})
        assert (refused.status_code, refused.json()["code"]) == (404, "checkpoint_not_found")
        assert ABSENT in refused.json()["detail"]
    assert await door.state(thread_id) == before
    assert len(await door.runs(thread_id)) == 1


@in_each_way
@pytest.mark.parametrize("value", NOT_IDS)
async def test_what_is_no_id_is_422(door: Door, name, value):
    thread_id = await started(door)
    for path in (f"/threads/{thread_id}/runs/wait", "/runs/wait"):
        refused = await door.post(path, {"assistant_id": "none", "input": {}, **name(value)})
        assert refused.status_code == 422, refused.text
        assert "checkpoint_id" in refused.json()["detail"]
    assert len(await door.runs(thread_id)) == 1


@in_each_way
@pytest.mark.parametrize("value", [None, ""])
async def test_none_is_as_if_nothing_were_said(door: Door, name, value):
    thread_id = await started(door)
    ran = await door.wait(thread_id, "none", input={"x": "second"}, **name(value))
    assert ran.json()["log"] == ["tell", "tell"]


@in_each_way
async def test_no_thread_is_made_for_it(door: Door, name):
    thread_id = str(uuid4())
    refused = await door.wait(thread_id, "none", input={}, if_not_exists="create", **name(ABSENT))
    assert refused.json()["code"] == "checkpoint_not_found"
    assert (await door.http.get(f"/threads/{thread_id}")).status_code == 404
    refused = await door.wait(thread_id, "none", input={}, **name(ABSENT))
    assert refused.json()["code"] == "thread_not_found"
    empty = await door.thread()
    refused = await door.wait(empty, "none", input={}, **name(ABSENT))
    assert refused.json()["code"] == "checkpoint_not_found"


@in_each_way
async def test_a_run_without_a_thread_has_none(door: Door, name):
    before = await door.threads()
    body = {"assistant_id": "none", "input": {}, **name(ABSENT)}
    for path in ("/runs/wait", "/runs/stream", "/runs"):
        assert (await door.post(path, body)).status_code == 422
    assert (await door.post("/runs/batch", [body])).status_code == 422
    assert await door.threads() == before


@in_each_way
async def test_another_threads_is_not_there(door: Door, name):
    other = await door.state(await started(door))
    thread_id = await started(door)
    refused = await door.wait(thread_id, "none", input={}, **name(other["checkpoint_id"]))
    assert refused.json()["code"] == "checkpoint_not_found"
    refused = await door.wait(thread_id, "none", input={}, checkpoint=other["checkpoint"])
    assert refused.status_code == 422
    assert other["checkpoint"]["thread_id"] in refused.json()["detail"]
    refused = await door.wait(
        thread_id, "none", input={}, config={"configurable": {"thread_id": str(uuid4())}}
    )
    assert refused.status_code == 422


@in_each_way
async def test_an_earlier_one_is_where_the_run_starts(door: Door, name):
    thread_id = await started(door)
    first = await door.state(thread_id)
    await door.wait(thread_id, "none", input={"x": "second"})
    ran = await door.wait(
        thread_id, "none", input={"log": ["third"]}, **name(first["checkpoint_id"])
    )
    assert ran.json() == {"x": "first", "log": ["tell", "third", "tell"], "seen": "None"}


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"checkpoint_ns": 5},
        {"checkpoint_map": 5},
        {"checkpoint_map": {"": "zz"}},
        {"checkpoint_ns": "inner:1", "checkpoint_id": ABSENT},
        {"checkpoint_ns": "inner:1", "checkpoint_map": {"inner:1": ABSENT}},
        {"checkpoint_ns": "inner:1"},
        {"checkpoint_map": {"inner:1": ABSENT}},
    ],
)
async def test_a_subgraphs_is_to_be_named_whole(door: Door, checkpoint):
    thread_id = await started(door)
    refused = await door.wait(thread_id, "none", input={}, checkpoint=checkpoint)
    assert refused.status_code == 422
    named = {"checkpoint_ns": "inner:1", "checkpoint_map": {"": ABSENT, "inner:1": ABSENT}}
    refused = await door.wait(thread_id, "none", input={}, checkpoint=named)
    assert refused.json()["code"] == "checkpoint_not_found"


async def test_two_that_differ_are_refused(door: Door):
    thread_id = await started(door)
    head = (await door.state(thread_id))["checkpoint_id"]
    for body in (
        {"checkpoint_id": head, "checkpoint": {"checkpoint_id": ABSENT}},
        {"checkpoint_id": head, "config": {"configurable": {"checkpoint_id": ABSENT}}},
    ):
        assert (await door.wait(thread_id, "none", input={}, **body)).status_code == 422
    changed = await door.post(
        f"/threads/{thread_id}/state",
        {"values": {"x": "y"}, "checkpoint_id": head, "checkpoint": {"checkpoint_id": ABSENT}},
    )
    assert changed.status_code == 422
    alike = {"checkpoint_id": head, "checkpoint": {"checkpoint_id": head.upper()}}
    assert (await door.wait(thread_id, "none", input={}, **alike)).json()["log"] == ["tell"] * 2


async def test_one_that_goes_before_the_runs_turn_comes_fails_it(door: Door, module_database: str):
    thread_id = await started(door)
    first = (await door.state(thread_id))["checkpoint_id"]
    await door.wait(thread_id, "none", input={"x": "second"})
    body = {"assistant_id": "none", "input": {}, "checkpoint_id": first, "after_seconds": 1}
    run_id = (await door.post(f"/threads/{thread_id}/runs", body)).json()["run_id"]
    with psycopg.connect(module_database, autocommit=True) as database:
        database.execute("DELETE FROM checkpoints WHERE checkpoint_id = %s", (first,))
    before = await door.state(thread_id)
    ended = (await door.http.get(f"/threads/{thread_id}/runs/{run_id}/join")).json()
    assert ended["__error__"]["error"] == "CheckpointNotFound"
    assert (await door.state(thread_id))["values"] == before["values"]


@asynccontextmanager
async def busy(door: Door, tmp_path):
    """A thread with one finished turn, and another that is under way; and its head before."""
    thread_id = await door.thread()
    await door.wait(thread_id, "slow", input={"x": "0"})
    head = (await door.state(thread_id))["checkpoint"]
    gate = tmp_path / "gate"
    asked = {"assistant_id": "slow", "input": {"x": "1", "gate": str(gate)}}
    await door.post(f"/threads/{thread_id}/runs", asked)
    yield thread_id, head, gate
    await eventually(lambda: all_ended(door, thread_id))


async def all_ended(door: Door, thread_id: str) -> bool:
    status: str = (await door.get(thread_id))["status"]
    return status != "busy"


async def has_written(door: Door, thread_id: str, said: str) -> bool:
    log: list[str] = (await door.state(thread_id))["values"]["log"]
    return said in log


TURNS = [f"{node}:{turn}" for turn in ("0", "1", "2", "3") for node in ("before", "wait")]


@pytest.mark.parametrize("written", [False, True], ids=["at once", "once it has written"])
@in_each_way
async def test_a_queued_run_that_names_the_head_of_its_time_comes_after_the_one_before(
    door: Door, tmp_path, name, written
):
    async with busy(door, tmp_path) as (thread_id, head, gate):
        if written:
            await eventually(lambda: has_written(door, thread_id, "before:1"))
        for turn in ("2", "3"):
            await door.post(
                f"/threads/{thread_id}/runs",
                {"assistant_id": "slow", "input": {"x": turn}, **name(head["checkpoint_id"])},
            )
        gate.touch()
    assert (await door.state(thread_id))["values"]["log"] == TURNS


async def test_so_does_one_that_comes_while_the_next_has_the_thread(door: Door, tmp_path):
    second = tmp_path / "second"
    async with busy(door, tmp_path) as (thread_id, head, gate):
        body = {"assistant_id": "slow", "checkpoint": head}
        await door.post(
            f"/threads/{thread_id}/runs", {**body, "input": {"x": "2", "gate": str(second)}}
        )
        gate.touch()
        await eventually(lambda: has_written(door, thread_id, "before:2"))
        await door.post(f"/threads/{thread_id}/runs", {**body, "input": {"x": "3", "gate": ""}})
        second.touch()
    assert (await door.state(thread_id))["values"]["log"] == TURNS


async def test_one_that_names_an_earlier_checkpoint_starts_there(door: Door, tmp_path):
    async with busy(door, tmp_path) as (thread_id, head, gate):
        history = (await door.post(f"/threads/{thread_id}/history", {"limit": 100})).json()
        earliest = next(one for one in history if one["checkpoint_id"] < head["checkpoint_id"])
        await door.post(
            f"/threads/{thread_id}/runs",
            {"assistant_id": "slow", "input": {"x": "2"}, "checkpoint": earliest["checkpoint"]},
        )
        gate.touch()
    log = (await door.state(thread_id))["values"]["log"]
    assert log == ["before:0", "before:2", "wait:2"]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_one_that_takes_the_thread_goes_on_from_what_is_left(door: Door, tmp_path, strategy):
    async with busy(door, tmp_path) as (thread_id, head, _):
        await eventually(lambda: has_written(door, thread_id, "before:1"))
        ran = await door.wait(
            thread_id,
            "slow",
            input={"x": "2", "gate": ""},
            checkpoint=head,
            multitask_strategy=strategy,
        )
    left = ["before:1"] if strategy == "interrupt" else []
    assert ran.json()["log"] == ["before:0", "wait:0", *left, "before:2", "wait:2"]


async def test_a_finished_turn_is_left_by_who_names_the_head_before_it(door: Door):
    thread_id = await started(door)
    head = (await door.state(thread_id))["checkpoint"]
    await door.wait(thread_id, "none", input={"x": "second"})
    ran = await door.wait(thread_id, "none", input={"x": "third"}, checkpoint=head)
    assert ran.json()["log"] == ["tell", "tell"]
