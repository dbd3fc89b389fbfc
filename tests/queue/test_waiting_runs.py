"""Runs that wait: queueing, the four strategies, claims, releases, rescues and cancels."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import pytest

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.checkpoints.fence import RunToken
from headrace.errors import LeaseLost, RunForgotten, ThreadBusy
from headrace.idempotency.schemas import RequestKey
from headrace.ids import uuid7
from headrace.queue.ends import RELEASED, RunEnd, StopAsked
from headrace.queue.queue import Queue
from headrace.queue.rows import Attempt
from headrace.queue.starts import CheckedStart
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import DONE, default_isolation, expire_process
from tests.support.runs import register_process as register
from tests.support.runs import run_request as request

GRAPHS = ["agent"]
LOST = {"error": "ProcessLost", "message": "gone"}


@pytest.fixture(params=["read committed", "repeatable read"])
async def queue(database_url, request):
    with default_isolation(database_url, request.param):
        async with open_pool(database_url, pool_max=8) as pool, open_writer(pool) as writer:
            yield Queue(pool, writer)


@pytest.fixture
def owner(database):
    return register(database)


def one(database, statement, *values):
    return database.execute(statement, values).fetchone()


def thread(database, thread_id="t"):
    """Status, who has it, and which run may be claimed."""
    return one(
        database,
        "SELECT status, running_run_id, ready_run_id FROM threads WHERE thread_id = %s",
        thread_id,
    )


def status(database, run_id):
    found = one(database, "SELECT status FROM runs WHERE run_id = %s", run_id)
    return found and found[0]


STOPPED = RunEnd("interrupted", "interrupted", {"error": "UserInterrupt", "message": ""})


async def end(queue, asked, owner, how=DONE, attempt=1):
    """As a worker does: a run that was asked to stop ends as that."""
    token = RunToken(asked.run_id, attempt, owner)
    try:
        return await queue.end_if_owned(token, asked.thread_id, how)
    except StopAsked as stop:
        if stop.action == "rollback":
            return await queue.roll_back_if_owned(token, asked.thread_id)
        return await queue.end_if_owned(token, asked.thread_id, STOPPED)


async def claim(queue, owner, limit=10):
    return [one.request.run_id for one in await queue.claimer.claim(owner, GRAPHS, limit)]


def sound(database):
    """What holds of all threads at any moment: no leaked slot, no run that nobody would claim."""
    return (
        database.execute("""
        SELECT thread_id FROM threads
        WHERE (running_run_id IS NOT NULL) <> EXISTS (
            SELECT FROM runs WHERE run_id = running_run_id AND status = 'running')
          OR (SELECT count(*) FROM runs
              WHERE runs.thread_id = threads.thread_id AND status = 'running') > 1
          OR (ready_at IS NOT NULL) <> (running_run_id IS NULL AND EXISTS (
            SELECT FROM runs WHERE runs.thread_id = threads.thread_id AND status = 'pending'))
          OR (ready_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM runs WHERE run_id = ready_run_id AND status = 'pending'))
          OR (status = 'busy') <> EXISTS (
            SELECT FROM runs
            WHERE runs.thread_id = threads.thread_id AND status IN ('pending', 'running'))
        """).fetchall()
        == []
    )


async def test_a_claimed_run_knows_the_request_that_made_it(queue, database, owner):
    first, second = replace(request(), request_id="first"), replace(request(), request_id="second")
    await queue.start_run_if_free(first, owner)
    await queue.enqueue(second)
    await end(queue, first, owner, RELEASED)
    (again,) = await queue.claimer.claim(owner, GRAPHS, 10)
    assert again.request.request_id == "first"
    await end(queue, first, owner, attempt=2)
    (after,) = await queue.claimer.claim(owner, GRAPHS, 10)
    assert after.request.request_id == "second"


async def test_a_thread_names_the_graph_that_executed_it_last(queue, database, owner):
    """Its state is read with that graph. A run of another graph that waits has executed nothing."""

    def named():
        return one(
            database,
            "SELECT metadata ->> 'graph_id', metadata ->> 'assistant_id', graph_id FROM threads",
        )

    mine, others = ("agent", str(UUID(int=1)), "agent"), ("other", str(UUID(int=2)), "other")
    first = request()
    second, third = (
        replace(request(), graph_id="other", assistant_id=UUID(int=2)) for _ in range(2)
    )
    await queue.enqueue(first)
    # A thread that had no run can be found by its graph at once.
    assert named() == mine
    assert await claim(queue, owner) == [first.run_id]
    await queue.enqueue(second)
    assert named() == mine
    await end(queue, first, owner)
    assert named() == mine
    await queue.cancel(ANONYMOUS, [second.run_id], "interrupt", "enough", "client")
    assert named() == mine
    await queue.enqueue(third)
    (claimed,) = await queue.claimer.claim(owner, [*GRAPHS, "other"], 10)
    assert claimed.request.run_id == third.run_id
    assert named() == others


@pytest.mark.parametrize("queued", [False, True])
async def test_a_keyed_run_is_confirmed_with_its_making_and_never_made_again(
    queue, database, owner, queued
):
    key = RequestKey.of("/runs", "k", b"{}")
    asked, other = replace(request(), key=key), request("u")

    def reserve():
        database.execute(
            "INSERT INTO idempotency_keys (tenant, route, key, body_sha256, run_id)"
            " VALUES ('default', %s, %s, %s, %s)",
            (key.route, key.key, key.body_sha256, asked.run_id),
        )

    async def make(one):
        await (queue.enqueue(one) if queued else queue.start_run_if_free(one, owner))

    reserve()
    await asyncio.gather(make(asked), make(other))
    assert one(database, "SELECT thread_id FROM idempotency_keys") == ("t",)
    # Of a try whose answer was lost, while the run is there.
    await make(asked)
    assert one(database, "SELECT count(*) FROM runs") == (2,)
    # And when it is not any more.
    database.execute("DELETE FROM threads WHERE thread_id = 't'")
    with pytest.raises(RunForgotten):
        await make(asked)
    await make(request("v"))
    assert one(database, "SELECT count(*) FROM runs WHERE thread_id = 't'") == (0,)
    # Where nothing came of the first try, nothing stands in the way of the next.
    database.execute("DELETE FROM idempotency_keys")
    reserve()
    await make(asked)
    assert one(database, "SELECT thread_id FROM idempotency_keys") == ("t",)


async def test_a_start_that_is_barred_twice_bars_no_other(database_url, database, owner):
    """Its assistant has changed, and its key's run is gone. Another start shares its flush."""
    key = RequestKey.of("/runs", "k", b"{}")
    for thread_id in ("t", "u"):
        database.execute(
            "INSERT INTO threads (thread_id, tenant, owner) VALUES (%s, 'default', 'anonymous')",
            (thread_id,),
        )
    barred = replace(request(), key=key, assistant_updated_at=datetime.now(UTC))
    other = replace(request("u"), key=RequestKey.of("/runs", "l", b"{}"))
    database.execute(
        "INSERT INTO idempotency_keys (tenant, route, key, body_sha256, run_id, thread_id)"
        " VALUES ('default', %s, %s, %s, %s, 't')",
        (key.route, key.key, key.body_sha256, barred.run_id),
    )
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        outcomes = await asyncio.gather(
            *(writer.commit(CheckedStart(one, owner)) for one in (barred, other)),
            return_exceptions=True,
        )
    assert [type(one) for one in outcomes] == [RunForgotten, Attempt]


async def test_a_key_stays_free_where_its_run_was_refused(queue, database, owner):
    key = RequestKey.of("/runs", "k", b"{}")
    await queue.start_run_if_free(request(), owner)
    refused = replace(request(), key=key, multitask_strategy="reject")
    database.execute(
        "INSERT INTO idempotency_keys (tenant, route, key, body_sha256, run_id)"
        " VALUES ('default', %s, %s, %s, %s)",
        (key.route, key.key, key.body_sha256, refused.run_id),
    )
    for make in (
        partial(queue.start_run_if_free, refused, owner),
        partial(queue.enqueue, refused),
    ):
        with pytest.raises(ThreadBusy):
            await make()
    assert one(database, "SELECT thread_id FROM idempotency_keys") == (None,)


async def test_a_queued_run_waits_for_its_thread_and_is_claimed_after_it(queue, database, owner):
    first, second = request(), request()
    await queue.start_run_if_free(first, owner)
    await queue.enqueue(second)
    metadata = one(database, "SELECT metadata FROM runs WHERE run_id = %s", second.run_id)
    assert metadata[0]["own"] == 1
    assert await claim(queue, owner) == []
    ended = await end(queue, first, owner)
    assert ended.more
    assert thread(database) == ("busy", None, second.run_id)
    with pytest.raises(ThreadBusy):
        await queue.start_run_if_free(request(), owner)
    assert await claim(queue, owner) == [second.run_id]
    assert thread(database) == ("busy", second.run_id, None)
    assert not (await end(queue, second, owner)).more
    assert thread(database) == ("idle", None, None)


async def test_a_run_on_a_free_thread_may_be_queued_and_claimed_with_what_it_was_asked_with(
    queue, database, owner
):
    asked = request()
    await queue.enqueue(asked)
    assert sound(database)
    (claimed,) = await queue.claimer.claim(owner, GRAPHS, 10)
    assert claimed.request.kwargs == asked.kwargs
    assert claimed.request.principal == asked.principal
    assert claimed.number == 1
    assert claimed.metadata["own"] == 1


async def test_a_run_of_an_unknown_graph_is_left_to_others(queue, owner):
    await queue.enqueue(request())
    assert await queue.claimer.claim(owner, ["other"], 10) == []


async def test_runs_of_a_thread_go_in_order_and_one_at_a_time(queue, database, owner):
    asked = [request() for _ in range(5)]
    for item in asked:
        await queue.enqueue(item)
    seen = []
    while found := await queue.claimer.claim(owner, GRAPHS, 10):
        (item,) = found
        seen.append(item.request.run_id)
        await end(queue, item.request, owner)
    assert seen == [item.run_id for item in asked]
    assert thread(database)[0] == "idle"


async def test_a_delayed_run_waits_for_its_time_while_others_start_in_place(queue, database, owner):
    later = replace(request(), after_seconds=3600)
    await queue.enqueue(later)
    assert await claim(queue, owner) == []
    now = request()
    await queue.start_run_if_free(now, owner)
    assert sound(database)
    await end(queue, now, owner)
    assert thread(database) == ("busy", None, later.run_id)
    database.execute("UPDATE runs SET created_at = now() WHERE status = 'pending'")
    database.execute("UPDATE threads SET ready_at = now()")
    assert await claim(queue, owner) == [later.run_id]


def asked_to_stop(database) -> dict[UUID, str]:
    return dict(
        database.execute(
            "SELECT run_id, cancel_action FROM runs"
            " WHERE status = 'running' AND cancel_action IS NOT NULL"
        ).fetchall()
    )


async def test_reject_is_refused_by_a_waiting_run_too(queue, database):
    await queue.enqueue(request())
    with pytest.raises(ThreadBusy):
        await queue.enqueue(replace(request(), multitask_strategy="reject"))
    assert one(database, "SELECT count(*) FROM runs") == (1,)


async def test_interrupt_ends_what_waits_and_asks_what_runs(queue, database, owner):
    running, waiting = request(), request()
    await queue.start_run_if_free(running, owner)
    await queue.enqueue(waiting)
    new = replace(request(), multitask_strategy="interrupt")
    queued = await queue.enqueue(new)
    assert (queued.replaced, queued.action) == (running.run_id, "interrupt")
    assert status(database, waiting.run_id) == "interrupted"
    assert asked_to_stop(database) == {running.run_id: "interrupt"}
    await end(queue, running, owner)
    assert await claim(queue, owner) == [new.run_id]


async def test_rollback_removes_what_waits_and_asks_what_runs(queue, database, owner):
    running, waiting = request(), request()
    await queue.start_run_if_free(running, owner)
    await queue.enqueue(waiting)
    new = replace(request(), multitask_strategy="rollback")
    await queue.enqueue(new)
    assert status(database, waiting.run_id) is None
    assert asked_to_stop(database) == {running.run_id: "rollback"}
    await queue.roll_back_if_owned(RunToken(running.run_id, 1, owner), "t")
    assert status(database, running.run_id) is None
    assert thread(database) == ("busy", None, new.run_id)


async def test_a_rollback_deletes_the_checkpoints_of_its_run_alone(queue, database, owner):
    asked = request()
    await queue.start_run_if_free(asked, owner)
    for thread_id, run_id in (("t", asked.run_id), ("t", uuid7()), ("u", asked.run_id)):
        database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata) VALUES"
            " (%s, %s, '{\"channel_versions\": {}}', jsonb_build_object('run_id', %s::text))",
            (thread_id, str(uuid7()), str(run_id)),
        )
    await queue.roll_back_if_owned(RunToken(asked.run_id, 1, owner), "t")
    left = database.execute("SELECT thread_id FROM checkpoints ORDER BY 1").fetchall()
    assert left == [("t",), ("u",)]
    assert thread(database) == ("idle", None, None)
    with pytest.raises(LeaseLost):
        await queue.roll_back_if_owned(RunToken(asked.run_id, 1, owner), "t")


async def test_a_released_run_is_claimed_again_before_those_behind_it(queue, database, owner):
    first, second = request(), request()
    await queue.start_run_if_free(first, owner)
    await queue.enqueue(second)
    assert (await end(queue, first, owner, RELEASED)).more
    assert sound(database)
    (again,) = await queue.claimer.claim(owner, GRAPHS, 10)
    assert (again.request.run_id, again.number) == (first.run_id, 2)
    assert one(database, "SELECT failures FROM runs WHERE run_id = %s", first.run_id) == (0,)
    with pytest.raises(LeaseLost):
        await end(queue, first, owner, attempt=1)
    await end(queue, first, owner, attempt=2)
    assert await claim(queue, owner) == [second.run_id]


async def test_a_rescued_run_goes_on_until_it_has_failed_too_often(queue, database):
    asked = request()
    behind = request()
    for attempt in (1, 2, 3):
        owner = register(database)
        if attempt == 1:
            await queue.start_run_if_free(asked, owner)
            await queue.enqueue(behind)
        elif attempt == 2:
            assert await claim(queue, owner) == [asked.run_id]
        else:
            assert await claim(queue, owner) == []
            (again,) = await queue.claimer.claim_suspect(owner, GRAPHS)
            assert again.request.run_id == asked.run_id
        expire_process(database, owner)
        (taken,) = await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=3)
        assert (taken.run_id, taken.failures) == (asked.run_id, attempt)
        assert taken.status == ("pending" if attempt < 3 else "error")
        assert sound(database)
    assert await claim(queue, register(database)) == [behind.run_id]


@pytest.mark.parametrize(
    ("action", "becomes"), [("interrupt", "interrupted"), ("rollback", "pending")]
)
async def test_a_lost_run_that_was_to_be_cancelled(queue, database, owner, action, becomes):
    asked = request()
    await queue.start_run_if_free(asked, owner)
    await queue.cancel(ANONYMOUS, [asked.run_id], action, "enough", "client")
    expire_process(database, owner)
    await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=1)
    assert status(database, asked.run_id) == becomes
    assert sound(database)
    if becomes == "pending":
        (claimed,) = await queue.claimer.claim(register(database), GRAPHS, 1)
        assert claimed.asked.action == "rollback"


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_cancelled_run_that_waits_is_over_at_once(queue, database, owner, action):
    asked = request()
    await queue.enqueue(asked)
    (told,) = await queue.cancel(ANONYMOUS, [asked.run_id], action, "enough", "client")
    assert told.state == ("ended" if action == "interrupt" else "removed")
    assert status(database, asked.run_id) == ("interrupted" if action == "interrupt" else None)
    assert thread(database) == ("idle", None, None)
    assert await claim(queue, owner) == []


async def test_a_rollback_of_a_released_run_is_left_to_whoever_claims_it(queue, database, owner):
    asked = request()
    await queue.start_run_if_free(asked, owner)
    await end(queue, asked, owner, RELEASED)
    (told,) = await queue.cancel(ANONYMOUS, [asked.run_id], "rollback", "enough", "client")
    assert told.state == "asked"
    (claimed,) = await queue.claimer.claim(owner, GRAPHS, 1)
    assert claimed.asked.action == "rollback"


async def test_a_cancel_of_a_strangers_or_unknown_or_ended_run(queue, database, owner):
    asked = request()
    await queue.start_run_if_free(asked, owner)
    (stranger,) = await queue.cancel(
        Principal("eve", tenant="other"), [asked.run_id], "interrupt", "", "client"
    )
    (unknown,) = await queue.cancel(ANONYMOUS, [uuid7()], "interrupt", "", "client")
    assert (stranger.state, unknown.state) == ("unknown", "unknown")
    assert asked_to_stop(database) == {}
    await end(queue, asked, owner)
    (ended,) = await queue.cancel(ANONYMOUS, [asked.run_id], "rollback", "", "client")
    assert ended.state == "ended"
    assert status(database, asked.run_id) == "success"


async def test_a_run_that_an_older_release_left_waiting_is_found(queue, database, owner):
    first, second = request(), request()
    await queue.start_run_if_free(first, owner)
    await queue.enqueue(second)
    await end(queue, first, owner)
    database.execute(
        "UPDATE threads SET ready_at = NULL, ready_run_id = NULL, ready_graph_id = NULL,"
        " status = 'idle'"
    )
    assert await claim(queue, owner) == []
    assert await queue.takeover.mend_threads() == 1
    assert await claim(queue, owner) == [second.run_id]
    assert await queue.takeover.mend_threads() == 0


async def test_claims_at_once_take_each_run_once(database_url, queue, database):
    for number in range(30):
        await queue.enqueue(request(f"t{number}"))
    owners = [register(database) for _ in range(6)]
    claims = await asyncio.gather(*[claim(queue, owner, 10) for owner in owners])
    taken = [run_id for found in claims for run_id in found]
    assert len(taken) == len(set(taken))
    taken += await claim(queue, owners[0], 100)
    assert len(taken) == 30


async def test_everything_at_once_leaks_no_slot_and_loses_no_run(database_url, queue, database):
    """Starts, queueing, claims, ends, releases, cancels and lost processes, then all is ended."""
    steady = register(database)

    async def make(number: int) -> None:
        for turn in range(10):
            asked = request(f"t{(number * 7 + turn) % 4}")
            strategy = ("enqueue", "enqueue", "interrupt", "rollback")[(number + turn) % 4]
            asked = replace(asked, multitask_strategy=strategy)
            try:
                await queue.start_run_if_free(asked, steady)
            except ThreadBusy:
                await queue.enqueue(asked)
            else:
                await end(queue, asked, steady, RELEASED if turn % 3 == 0 else DONE)
            if turn % 4 == 0:
                action = "rollback" if number % 2 else "interrupt"
                await queue.cancel(ANONYMOUS, [asked.run_id], action, "", "client")

    async def work(number: int) -> None:
        for turn in range(15):
            owner = register(database) if turn % 5 == 0 else steady
            taken = await queue.claimer.claim(owner, GRAPHS, 2)
            for item in [*taken, *await queue.claimer.claim_suspect(owner, GRAPHS)]:
                if owner is not steady:
                    continue
                if item.asked is not None and item.asked.action == "rollback":
                    await queue.roll_back_if_owned(item.token, item.request.thread_id)
                else:
                    await end(queue, item.request, owner, attempt=item.number)
            if owner is not steady:
                expire_process(database, owner)
                await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=50)

    await asyncio.gather(*[make(number) for number in range(6)], *[work(n) for n in range(3)])
    await queue.takeover.take_runs_of_lost_processes(LOST, max_failures=50)
    assert sound(database)
    while found := [
        *await queue.claimer.claim(steady, GRAPHS, 10),
        *await queue.claimer.claim_suspect(steady, GRAPHS),
    ]:
        for item in found:
            await end(queue, item.request, steady, attempt=item.number)
    assert one(database, "SELECT count(*) FROM runs WHERE ended_at IS NULL") == (0,)
    assert one(database, "SELECT count(*) FROM threads WHERE status = 'busy'") == (0,)
