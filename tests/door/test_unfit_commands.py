"""A command that the graph refuses fails its own run, and leaves nothing behind."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.door import Door, open_door
from tests.support.engine import ENGINES

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def door(
    request: pytest.FixtureRequest, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    engine = {"engine": request.param}
    async with open_door(module_database, folder, checkpointer=engine) as opened:
        yield opened


async def standing(door: Door) -> str:
    """A thread that stands behind a run."""
    thread_id = await door.thread()
    ran = await door.wait(thread_id, "plain", input={"x": "1"})
    assert ran.json()["log"] == ["tell"]
    return thread_id


def failed(ran: Any) -> bool:
    return ran.status_code >= 400 or "__error__" in (ran.json() or {})


UNFIT: dict[str, dict[str, Any]] = {
    "a text for a list": {"update": {"log": "notalist"}},
    "an object for a list": {"update": {"log": {"a": 1}}},
    "a number for a list": {"update": {"log": 7}},
    "two for one": {"update": [["x", "1"], ["x", "2"]]},
    "one of several": {"update": {"x": "2", "log": 7}},
    "with a goto": {"update": {"log": 7}, "goto": "tell"},
    "with a resume": {"update": {"log": 7}, "resume": "yes"},
    "a task": {"update": {"__pregel_tasks": "tell"}},
}


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("stream_mode", ["values", "events"])
@pytest.mark.parametrize("command", UNFIT.values(), ids=UNFIT)
async def test_later_runs_of_the_thread_succeed(door: Door, command, durability, stream_mode):
    thread_id = await standing(door)
    before = await door.state(thread_id)
    options = {"durability": durability, "stream_mode": [stream_mode]}
    ran = await door.wait(thread_id, "plain", command=command, **options)
    assert failed(ran) or "__pregel_tasks" in command["update"], ran.text
    after = await door.state(thread_id)
    assert after["values"]["log"] == before["values"]["log"]
    ran = await door.wait(thread_id, "plain", input={"x": "3"})
    assert ran.json()["log"] == ["tell", "tell"]
    assert ran.json()["x"] == "3"


async def test_an_interrupt_waits_on_and_can_be_answered(door: Door):
    thread_id = await door.thread()
    await door.wait(thread_id, "one", input={"x": "1"})
    ran = await door.wait(thread_id, "one", command={"resume": "no", "update": {"log": 7}})
    assert failed(ran)
    assert [one["value"] for one in (await door.state(thread_id))["interrupts"]] == ["q"]
    ran = await door.wait(thread_id, "one", command={"resume": "yes", "update": {"log": ["own"]}})
    assert ran.json()["log"] == ["own", "q:yes"]


async def test_an_update_of_a_run_that_fails_later_is_kept(door: Door):
    """LangGraph's own way: it was applied, and the next run goes on from there."""
    thread_id = await door.thread()
    await door.wait(thread_id, "asks_and_fails", input={"x": "1"})
    ran = await door.wait(
        thread_id, "asks_and_fails", command={"update": {"log": ["own"]}, "goto": "fails"}
    )
    assert failed(ran)
    assert failed(await door.wait(thread_id, "asks_and_fails", input=None))
    state = await door.state(thread_id)
    assert state["values"]["log"] == ["own"]


@pytest.mark.parametrize("values", [{"log": "notalist"}, {"log": 7}, [{"log": 7}], {"nobody": 1}])
async def test_a_refused_update_of_the_state_leaves_nothing(door: Door, values):
    thread_id = await standing(door)
    path = f"/threads/{thread_id}/state"
    said = await door.post(path, {"values": values, "as_node": "tell"})
    assert said.status_code in (200, 400, 422), said.text
    ran = await door.wait(thread_id, "plain", input={"x": "3"})
    assert ran.json()["log"] == ["tell", "tell"]


@pytest.mark.parametrize(
    "update",
    [
        {"values": {"log": 7}, "as_node": "tell"},
        {"command": {"update": {"log": 7}}, "as_node": "tell"},
    ],
)
async def test_a_thread_whose_supersteps_are_refused_is_not_made(door: Door, update):
    before = await door.threads()
    steps = [{"updates": [update]}]
    body = {"supersteps": steps, "metadata": {"graph_id": "plain"}}
    said = await door.post("/threads", body)
    assert said.status_code in (400, 422), said.text
    assert await door.threads() == before
