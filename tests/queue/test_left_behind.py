"""A process that has registered on another timeline of the server: a standby was promoted since."""

import pytest

from headrace.checkpoints.fence import RunToken
from headrace.errors import LeaseLost, ThreadBusy
from headrace.queue.ends import RunEnd
from tests.support.runs import (
    OTHER_TIMELINE,
    expire_process,
    present_timeline,
    register_process,
    run_request,
    set_timeline,
)

GRAPHS = ["agent"]
LOST = {"error": "ProcessLost", "message": "gone"}
SUCCESS = RunEnd("success", "idle")


def status(database, run_id):
    return database.execute(
        "SELECT status, attempt, failures FROM runs WHERE run_id = %s", (run_id,)
    ).fetchone()


@pytest.fixture
def owner(database):
    process_id = register_process(database)
    set_timeline(database, process_id, present_timeline(database))
    return process_id


async def test_on_the_timeline_of_the_server_nothing_changes(queue, database, owner):
    asked = run_request("a")
    attempt = await queue.start_run_if_free(asked, owner)
    token = RunToken(asked.run_id, attempt.number, owner)
    await queue.end_if_owned(token, "a", SUCCESS)
    assert status(database, asked.run_id) == ("success", 1, 0)
    assert not await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=3)


async def test_it_ends_no_run(queue, database, owner):
    asked = run_request("a")
    attempt = await queue.start_run_if_free(asked, owner)
    set_timeline(database, owner, OTHER_TIMELINE)
    token = RunToken(asked.run_id, attempt.number, owner)
    for end in (SUCCESS, RunEnd("pending", "busy")):
        with pytest.raises(LeaseLost):
            await queue.end_if_owned(token, "a", end)
    assert status(database, asked.run_id) == ("running", 1, 0)


@pytest.mark.parametrize("create", [True, False])
async def test_it_starts_no_run_in_place_and_the_run_waits_in_the_queue(
    queue, database, owner, create
):
    if not create:
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner) VALUES ('a', 'default', 'anonymous')"
        )
    set_timeline(database, owner, OTHER_TIMELINE)
    asked = run_request("a")
    with pytest.raises(ThreadBusy):
        await queue.start_run_if_free(asked, owner)
    assert status(database, asked.run_id) is None
    await queue.enqueue(asked)
    (claimed,) = await queue.claimer.claim(register_process(database), GRAPHS, 5)
    assert claimed.request.run_id == asked.run_id


async def test_it_claims_no_run(queue, database, owner):
    asked = run_request("a")
    await queue.enqueue(asked)
    set_timeline(database, owner, OTHER_TIMELINE)
    assert await queue.claimer.claim(owner, GRAPHS, 5) == []
    assert status(database, asked.run_id) == ("pending", 0, 0)


async def test_a_process_that_is_marked_as_lost_claims_no_run(queue, database, owner):
    """It has not noticed yet. The run would be taken from it again, and count one more loss."""
    asked = run_request("a")
    await queue.enqueue(asked)
    database.execute("UPDATE processes SET lost = true WHERE process_id = %s", (owner,))
    assert await queue.claimer.claim(owner, GRAPHS, 5) == []
    assert status(database, asked.run_id) == ("pending", 0, 0)


async def test_its_runs_are_taken_at_once_and_none_is_to_blame(queue, database, owner):
    """Nobody needs a clock to judge it, and its lease has not expired."""
    for name in ("a", "b"):
        await queue.start_run_if_free(run_request(name), owner)
    set_timeline(database, owner, OTHER_TIMELINE)
    taken = await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=1, by_clock=False)
    assert {(one.thread_id, one.status, one.failures, one.again) for one in taken} == {
        ("a", "pending", 0, False),
        ("b", "pending", 0, False),
    }
    claimed = await queue.claimer.claim(register_process(database), GRAPHS, 5)
    assert {one.number for one in claimed} == {2}


async def test_without_a_clock_no_process_is_judged_by_its_lease(queue, database, owner):
    await queue.start_run_if_free(run_request("a"), owner)
    expire_process(database, owner)
    assert not await queue.takeover.take_runs_of_lost_processes(
        LOST, max_failures=3, by_clock=False
    )
    assert len(await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=3)) == 1
