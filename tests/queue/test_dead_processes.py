"""A process whose end is proven loses its runs whatever its lease says; others lose nothing."""

import asyncio

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.errors import LeaseLost
from headrace.ids import uuid7
from tests.support.runs import DONE, expire_process, insert_running_run, register_process
from tests.support.runs import run_request as request

GRAPHS = ["agent"]
LOST = {"error": "ProcessLost", "message": "gone"}


async def take(queue, *dead, seconds=0.0, max_failures=3):
    """What is taken from these processes, which died so long ago."""
    return await queue.takeover.take_runs_of_dead_processes(
        dict.fromkeys(dead, seconds), LOST, max_failures=max_failures
    )


async def test_its_runs_wait_again_though_its_lease_has_not_expired(queue, database):
    owner, other = register_process(database), register_process(database)
    attempt = await queue.start_run_if_free(request("t"), owner)
    await queue.start_run_if_free(request("others"), other)
    assert await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=3) == []
    (run,) = await take(queue, owner)
    assert (run.thread_id, run.status, run.failures, run.proof) == ("t", "pending", 1, "exit")
    rows = database.execute("SELECT process_id, lost FROM processes").fetchall()
    assert dict(rows) == {owner: True, other: False}
    with pytest.raises(LeaseLost):
        await queue.end_if_owned(attempt.token, "t", DONE)
    (again,) = await queue.claimer.claim_rescued(other, GRAPHS, 1)
    assert (again.token.attempt, again.began) == (2, "after_loss")


async def test_the_run_of_a_living_process_is_not_taken(queue, database):
    owner = register_process(database)
    await queue.start_run_if_free(request("t"), owner)
    assert await take(queue, uuid7(), register_process(database)) == []
    assert await take(queue) == []
    assert database.execute("SELECT status FROM runs").fetchall() == [("running",)]


async def test_it_is_judged_as_if_its_lease_had_expired(queue, database):
    """The only run is to blame, and ends after so many losses; one that was to stop has stopped."""
    wanted, stopped = request("t"), request("stopped")
    await queue.enqueue(wanted)
    for failures in (1, 2, 3):
        owner = register_process(database)
        await (
            queue.claimer.claim(owner, GRAPHS, 1)
            if failures < 3
            else queue.claimer.claim_suspect(owner, GRAPHS)
        )
        (run,) = await take(queue, owner)
        assert (run.failures, run.status) == (failures, "pending" if failures < 3 else "error")
    owner = register_process(database)
    await queue.start_run_if_free(stopped, owner)
    await queue.cancel(ANONYMOUS, [stopped.run_id], "interrupt", "enough", "client")
    (run,) = await take(queue, owner)
    assert run.status == "interrupted"


async def test_runs_that_died_together_twice_are_suspects(queue, database):
    owner = register_process(database)
    for name in ("a", "b", "c"):
        await queue.start_run_if_free(request(name), owner)
    for losses in (1, 2):
        taken = await take(queue, owner)
        assert {run.thread_id: run.failures for run in taken} == dict.fromkeys("abc", losses)
        owner = register_process(database)
        # After the first loss they go on together.
        claimed = await queue.claimer.claim(owner, GRAPHS, 10)
        assert len(claimed) == (3 if losses == 1 else 0)
    assert len(await queue.claimer.claim_suspect(owner, GRAPHS)) == 1


async def test_its_end_is_its_last_sign_of_life(queue, database):
    """And not the last renewal of its lease: so what a suspect has lived is known well."""
    owner = register_process(database, age_seconds=8)
    await queue.start_run_if_free(request("t"), owner)
    database.execute("UPDATE runs SET started_at = clock_timestamp() - interval '6 seconds'")
    await take(queue, owner, seconds=1.0)
    (lived,) = database.execute("SELECT lived_seconds FROM runs").fetchone()
    assert 4.5 < lived < 6.0


async def test_a_death_long_ago_does_not_make_the_last_renewal_earlier(queue, database):
    owner = register_process(database)
    await queue.start_run_if_free(request("t"), owner)
    await take(queue, owner, seconds=86400.0)
    found = database.execute(
        "SELECT heartbeat_at > clock_timestamp() - interval '1 minute' FROM processes"
    ).fetchone()
    assert found == (True,)


async def test_a_run_that_it_had_begun_to_start_is_taken_by_the_next_look(queue, database):
    """Its statement may arrive after its end, as long as it was sent before."""
    owner = register_process(database)
    assert await take(queue, owner) == []
    await queue.start_run_if_free(request("late"), owner)
    assert [run.thread_id for run in await take(queue, owner)] == ["late"]


async def test_a_process_without_a_row_loses_its_runs(queue, database):
    owner = register_process(database)
    await queue.start_run_if_free(request("t"), owner)
    database.execute("DELETE FROM processes")
    assert [run.thread_id for run in await take(queue, owner)] == ["t"]


async def test_many_that_take_at_once_take_each_run_once(queue, database):
    owners = [register_process(database) for _ in range(2)]
    for number, owner in enumerate(owners):
        for name in range(3):
            await queue.start_run_if_free(request(f"{number}{name}"), owner)
    # Its lease expires meanwhile, and the rescuer finds it as well.
    expire_process(database, owners[0])
    found = await asyncio.gather(
        *(take(queue, *owners) for _ in range(4)),
        *(queue.takeover.take_runs_of_lost_processes(LOST, max_failures=3) for _ in range(2)),
    )
    taken = [run.thread_id for runs in found for run in runs]
    assert sorted(taken) == ["00", "01", "02", "10", "11", "12"]
    assert database.execute("SELECT DISTINCT failures FROM runs").fetchall() == [(1,)]


async def test_a_damaged_row_does_not_keep_the_runs_of_another(queue, database):
    damaged, sound = register_process(database), register_process(database)
    insert_running_run(database, damaged, "damaged")
    insert_running_run(database, sound, "sound")
    database.execute(
        "ALTER TABLE runs ADD CHECK (thread_id <> 'damaged' OR status = 'running') NOT VALID"
    )
    assert [run.thread_id for run in await take(queue, damaged, sound)] == ["sound"]
