"""The worker with real graphs and its own lease: queueing, moving on, cancelling, rolling back."""

import asyncio
from dataclasses import replace

import psycopg
import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.events.reader import Moved
from headrace.queue.rows import QueuedRun
from tests.support.runs import insert_running_run, run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker


def slow(thread_id="t", seconds=0.3, strategy="enqueue"):
    asked = run_request(thread_id)
    kwargs = {**KWARGS, "input": {"seconds": seconds}}
    return replace(asked, kwargs=kwargs, multitask_strategy=strategy)


def status(database, asked):
    return database.execute(
        "SELECT status, attempt, failures FROM runs WHERE run_id = %s", (asked.run_id,)
    ).fetchone()


def checkpoints(database, asked):
    return database.execute(
        "SELECT count(*) FROM checkpoints WHERE metadata->>'run_id' = %s", (str(asked.run_id),)
    ).fetchone()[0]


async def test_a_busy_thread_and_a_full_process_queue_and_are_served_in_turn(
    database_url, database
):
    async with open_worker(database_url, max_concurrent_runs=1) as worker:
        first, second, elsewhere = slow(seconds=0.1), slow(seconds=0), slow("u", seconds=0)
        await worker.submit(first)
        for asked in (second, elsewhere):
            assert isinstance(await worker.submit(asked), QueuedRun)
        await eventually(lambda: status(database, second) == ("success", 1, 0))
        await eventually(lambda: status(database, elsewhere) == ("success", 1, 0))


async def test_without_a_worker_runs_are_only_queued(database_url, database):
    async with open_worker(database_url, enabled=False) as api:
        asked = slow(seconds=0)
        assert isinstance(await api.submit(asked), QueuedRun)
        assert status(database, asked) == ("pending", 0, 0)
        async with open_worker(database_url):
            await eventually(lambda: status(database, asked) == ("success", 1, 0))


async def test_a_start_whose_caller_is_gone_is_executed_on_a_busy_thread_too(
    database_url, database
):
    async with open_worker(database_url) as worker:
        await worker.submit(slow(seconds=0.1))
        asked = slow(seconds=0)
        starting = asyncio.ensure_future(worker.submit(asked))
        await asyncio.sleep(0)
        starting.cancel()
        await eventually(lambda: status(database, asked) == ("success", 1, 0))


async def test_what_a_drain_releases_goes_on_elsewhere_from_its_last_checkpoint(
    database_url, database
):
    asked = slow(seconds=0.4)
    async with open_worker(database_url) as first:
        execution = await first.submit(asked)
        # The input, and the first step.
        await eventually(lambda: checkpoints(database, asked) >= 2)
        await first.finish(0)
        with pytest.raises(Moved):
            await execution.outcome(1)
        assert status(database, asked) == ("pending", 1, 0)
    async with open_worker(database_url) as second:
        await eventually(lambda: status(database, asked) == ("success", 2, 0))
        snapshot = await second._executions._executor._runner._saver.aget_tuple(
            {"configurable": {"thread_id": "t"}}
        )
    # From its input it would have done the first step twice.
    assert snapshot.checkpoint["channel_values"]["done"] == [0, 1, 2]


async def test_a_claim_that_is_under_way_when_the_grace_ends_is_released_too(
    database_url, database
):
    asked = slow(seconds=30)
    async with open_worker(database_url, enabled=False) as api:
        await api.submit(asked)
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM runs FOR UPDATE")
        async with open_worker(database_url) as worker:
            await eventually(lambda: waiting_for_locks(database) == (1,))
            finishing = asyncio.ensure_future(worker.finish(0))
            await asyncio.sleep(0)
            holder.rollback()
            await asyncio.wait_for(finishing, 10)
            assert status(database, asked) == ("pending", 1, 0)


def waiting_for_locks(database):
    return database.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()


async def test_a_run_whose_end_a_promoted_standby_lacks_is_taken_up_again(database_url, database):
    """Its row says that it is running here, and here nobody knows it."""
    async with open_worker(database_url, heartbeat_seconds=0.2) as worker:
        asked = slow(seconds=0)
        execution = await worker.submit(asked)
        await execution.outcome(10)
        with database.transaction():
            database.execute("UPDATE runs SET status = 'running', ended_at = NULL")
            database.execute(
                "UPDATE threads SET status = 'busy', running_run_id = %s", (asked.run_id,)
            )
        # As the promotion did to all connections.
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE '%processes%'"
            " AND pid <> pg_backend_pid()"
        )
        await eventually(lambda: status(database, asked) == ("success", 2, 0))


async def test_a_released_run_without_a_checkpoint_starts_from_its_input(database_url, database):
    async with open_worker(database_url, enabled=False) as api:
        asked = slow(seconds=0)
        await api.submit(asked)
        database.execute("UPDATE runs SET attempt = 1")
        async with open_worker(database_url):
            await eventually(lambda: status(database, asked) == ("success", 2, 0))


async def test_a_run_taken_up_again_is_followed_here_once_the_place_of_its_events_is_known(
    database_url, database
):
    """Whoever reads on from an id before that would be told nothing of the attempts before."""
    async with open_worker(database_url, enabled=False) as api:
        asked = slow(seconds=5)
        await api.submit(asked)
        database.execute("UPDATE runs SET attempt = 1")
        database.execute(
            "INSERT INTO run_events (run_id, event_id, attempt, event, data)"
            " SELECT run_id, 41, 1, 'custom', '1' FROM runs"
        )
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE run_events IN ACCESS EXCLUSIVE MODE")
        async with open_worker(database_url) as worker:
            await eventually(lambda: waiting_for_locks(database) == (1,))
            assert status(database, asked) == ("running", 2, 0)
            assert worker.execution_of(asked.run_id) is None
            holder.rollback()
            await eventually(lambda: worker.execution_of(asked.run_id) is not None)
            await worker.finish(0)


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_new_run_replaces_one_that_another_process_executes(
    database_url, database, strategy
):
    async with open_worker(database_url) as first, open_worker(database_url) as second:
        running, new = slow(seconds=30), slow(seconds=0, strategy=strategy)
        await first.submit(running)
        await eventually(lambda: checkpoints(database, running) >= 1)
        await second.submit(new)
        await eventually(lambda: status(database, new) == ("success", 1, 0))
        if strategy == "interrupt":
            assert status(database, running) == ("interrupted", 1, 0)
        else:
            assert status(database, running) is None
            assert checkpoints(database, running) == 0


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_cancel_reaches_the_owner_and_frees_the_thread(database_url, database, action):
    async with open_worker(database_url) as owner, open_worker(database_url) as other:
        running = slow(seconds=30)
        execution = await owner.submit(running)
        (told,) = await other.cancel(ANONYMOUS, [running.run_id], action, "enough", "client")
        assert told.state == "asked"
        outcome = await execution.outcome(5)
        assert outcome is not None
        assert outcome.status == "interrupted"
        row = database.execute("SELECT status, running_run_id FROM threads").fetchone()
        assert row == ("interrupted" if action == "interrupt" else "idle", None)


async def test_a_run_that_the_rows_alone_give_to_this_process_is_given_back(database_url, database):
    """A claim whose answer was lost: it was committed, and nobody here executes it."""
    async with open_worker(database_url) as worker:
        worker.refuse_new()
        async with open_worker(database_url, enabled=False) as api:
            asked = slow(seconds=0)
            await api.submit(asked)
            await worker._queue.claimer.claim(worker._heartbeat.process_id, ["agent"], 1)
            assert status(database, asked)[0] == "running"
            await worker._claims.release_unknown()
            assert status(database, asked) == ("pending", 1, 0)


async def test_a_claim_that_is_committed_after_it_was_given_up_is_given_back(
    database_url, database
):
    """By then nothing makes the process doubt what it knows."""
    async with open_worker(database_url) as worker:
        await (await worker.submit(slow("first", seconds=0))).outcome(5)
        token = insert_running_run(database, worker._heartbeat.process_id, "late")
        worker._claims._look_for_unknown_at = 0.0

        def ended():
            (found,) = database.execute(
                "SELECT status FROM runs WHERE run_id = %s", (token.run_id,)
            ).fetchone()
            return found not in ("running", "pending")

        # It is queued, claimed, and refused: its row has no input.
        await eventually(ended)
