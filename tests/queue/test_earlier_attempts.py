"""The row of a run keeps the attempts that it has lost: who had it, when, and how that ended."""

import os
import socket

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.queue.ends import RELEASED
from tests.support.runs import DONE, expire_process, insert_running_run
from tests.support.runs import register_process as register
from tests.support.runs import run_request as request

GRAPHS = ["agent"]
LOST = {"error": "ProcessLost", "message": "gone"}


def earlier(database):
    (found,) = database.execute("SELECT earlier_attempts FROM runs").fetchone()
    return found


async def rescue(queue, database, owner, *, max_failures=9):
    expire_process(database, owner)
    await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=max_failures)


async def test_a_run_that_ends_at_once_keeps_nothing(queue, database):
    attempt = await queue.start_run_if_free(request(), register(database))
    await queue.end_if_owned(attempt.token, "t", DONE)
    assert earlier(database) is None


async def test_releases_and_losses_are_kept_in_order(queue, database):
    first = register(database)
    attempt = await queue.start_run_if_free(request(), first)
    await queue.end_if_owned(attempt.token, "t", RELEASED)
    second = register(database)
    await queue.claimer.claim(second, GRAPHS, 1)
    await rescue(queue, database, second)
    third = register(database)
    (attempt,) = await queue.claimer.claim_rescued(third, GRAPHS, 1)
    await queue.end_if_owned(attempt.token, "t", DONE)
    released, lost = earlier(database)
    assert [one["attempt"] for one in (released, lost)] == [1, 2]
    assert [one["ended"] for one in (released, lost)] == ["released", "lost"]
    assert [one["process_id"] for one in (released, lost)] == [str(first), str(second)]
    # The process that gives a run back says who it is; of a lost one its row does.
    assert (released["hostname"], released["pid"]) == (socket.gethostname(), os.getpid())
    assert (lost["hostname"], lost["pid"]) == ("h", 1)
    assert released["started_at"] < released["ended_at"] <= lost["started_at"]
    assert "rescued_at" not in released
    # The last sign of life of a process that was registered a moment ago and never renewed.
    assert lost["ended_at"] <= lost["rescued_at"]


async def test_a_loss_of_a_process_without_a_row_is_kept_too(queue, database):
    owner = register(database)
    await queue.start_run_if_free(request(), owner)
    database.execute("DELETE FROM processes")
    await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=9)
    (one,) = earlier(database)
    assert (one["process_id"], one["hostname"], one["pid"]) == (str(owner), None, None)


@pytest.mark.parametrize("asked", [False, True])
async def test_the_attempt_with_which_a_lost_run_ends_is_kept(queue, database, asked):
    owner, wanted = register(database), request()
    await queue.start_run_if_free(wanted, owner)
    if asked:
        await queue.cancel(ANONYMOUS, [wanted.run_id], "interrupt", "enough", "client")
    await rescue(queue, database, owner, max_failures=1)
    ended, attempt = database.execute("SELECT status, attempt FROM runs").fetchone()
    assert ended == ("interrupted" if asked else "error")
    assert [(one["attempt"], one["ended"]) for one in earlier(database)] == [(attempt, "lost")]


@pytest.mark.parametrize("how", ["released", "lost"])
async def test_the_last_fifty_are_kept(queue, database, how):
    owner = register(database)
    token = insert_running_run(database, owner, "t")
    database.execute(
        "UPDATE runs SET attempt = 60, earlier_attempts = ("
        " SELECT jsonb_agg(jsonb_build_object('attempt', number) ORDER BY number)"
        " FROM generate_series(10, 59) AS number)"
    )
    if how == "released":
        token = type(token)(token.run_id, 60, owner)
        await queue.end_if_owned(token, "t", RELEASED)
    else:
        await rescue(queue, database, owner)
    assert [one["attempt"] for one in earlier(database)] == list(range(11, 61))
    assert earlier(database)[-1]["ended"] == how


@pytest.mark.parametrize("damaged", ["{}", "3", "null"])
async def test_a_damaged_list_holds_up_no_rescue(queue, database, damaged):
    owner = register(database)
    insert_running_run(database, owner, "t")
    database.execute("UPDATE runs SET earlier_attempts = %s::jsonb", (damaged,))
    await rescue(queue, database, owner)
    assert database.execute("SELECT status FROM runs").fetchone() == ("pending",)
    assert len(earlier(database)) == 1


async def test_the_first_reason_stays(queue, database):
    wanted = request()
    await queue.start_run_if_free(wanted, register(database))
    await queue.cancel(ANONYMOUS, [wanted.run_id], "interrupt", "enough", "disconnect")
    first = database.execute("SELECT cancel_reason, cancel_asked_at FROM runs").fetchone()
    await queue.cancel(ANONYMOUS, [wanted.run_id], "rollback", "enough", "client")
    again = database.execute("SELECT cancel_reason, cancel_asked_at FROM runs").fetchone()
    assert first == again
    assert first[0] == "disconnect"
