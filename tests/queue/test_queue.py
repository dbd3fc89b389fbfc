"""The run queue: one run per thread, guarded ends, what becomes of lost processes' runs."""

import ast
import asyncio
import re
from dataclasses import replace
from importlib import resources
from uuid import UUID

import psycopg
import pytest

from headrace.auth.principal import Principal
from headrace.checkpoints.fence import RunToken
from headrace.errors import AssistantChanged, LeaseLost, ThreadBusy, ThreadNotFound
from headrace.idempotency.schemas import RequestKey
from headrace.ids import uuid7
from headrace.queue.ends import RunEnd, queue_statements
from headrace.queue.queue import Queue
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import DONE
from tests.support.runs import register_process as register
from tests.support.runs import run_request as request
from tests.support.sources import modules
from tests.support.waiting import eventually


def thread(database, thread_id="t"):
    return database.execute(
        "SELECT status, running_run_id, metadata FROM threads WHERE thread_id = %s", (thread_id,)
    ).fetchone()


async def test_a_started_run_has_its_thread(queue, database):
    asked = request()
    started = await queue.start_run_if_free(asked, register(database))
    assert started.number == 1
    status, running, metadata = thread(database)
    assert (status, running) == ("busy", asked.run_id)
    assert metadata == {"graph_id": "agent", "assistant_id": str(UUID(int=1))}
    assert started.metadata == {**metadata, "own": 1}


async def test_a_second_run_is_refused_and_leaves_nothing(queue, database):
    owner = register(database)
    first = request()
    await queue.start_run_if_free(first, owner)
    with pytest.raises(ThreadBusy):
        await queue.start_run_if_free(request(), owner)
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    assert thread(database)[1] == first.run_id


async def test_of_many_at_once_one_gets_the_thread(queue, database):
    owner = register(database)
    tries = [queue.start_run_if_free(request(), owner) for _ in range(24)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, ThreadBusy) for result in results) == 23
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)


@pytest.mark.parametrize("queued", [False, True])
async def test_new_threads_are_made_in_the_order_of_their_ids(
    queue, database, database_url, queued
):
    """Clients may choose ids. So two flushes that make the same threads never wait crosswise."""
    owner, make = register(database), "INSERT INTO threads (thread_id) VALUES (%s)"
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute(make, ("a",))
        flush = asyncio.gather(
            *(
                queue.enqueue(request(name))
                if queued
                else queue.start_run_if_free(request(name), owner)
                for name in ("b", "a")
            )
        )
        await eventually(lambda: waiting_for_locks(database) == 1)
        # Shorter than Postgres waits before it ends a deadlock.
        await other.execute("SET LOCAL lock_timeout = '300ms'")
        await other.execute(make, ("b",))
        await other.rollback()
        await flush
    assert {thread(database, name)[0] for name in "ab"} == {"busy"}


def waiting_for_locks(database):
    (count,) = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    ).fetchone()
    return count


async def test_an_unknown_thread_is_not_found(queue, database):
    with pytest.raises(ThreadNotFound):
        await queue.start_run_if_free(request(create=False), register(database))


async def test_another_tenants_thread_is_not_found_even_when_it_may_be_created(queue, database):
    owner = register(database)
    await queue.start_run_if_free(request(principal=Principal("a", tenant="one")), owner)
    with pytest.raises(ThreadNotFound):
        await queue.start_run_if_free(request(principal=Principal("b", tenant="two")), owner)


async def end(queue, asked, owner, how=DONE, attempt=1):
    await queue.end_if_owned(RunToken(asked.run_id, attempt, owner), asked.thread_id, how)


async def test_an_end_frees_the_thread_and_may_be_repeated(queue, database):
    owner, asked = register(database), request()
    await queue.start_run_if_free(asked, owner)
    await end(queue, asked, owner)
    await end(queue, asked, owner)
    assert thread(database)[:2] == ("idle", None)
    await queue.start_run_if_free(request(), owner)


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_start_that_is_repeated_after_another_process_took_the_run(
    queue, database, keyed, ended
):
    """The answer to the first try was lost, and then the process itself for a while."""
    owner, key = register(database), RequestKey.of("/runs", "k", b"{}")
    asked = replace(request(), key=key if keyed else None)
    await queue.start_run_if_free(asked, owner)
    database.execute("UPDATE processes SET lost = true")
    await queue.takeover.take_runs_of_lost_processes({"error": "x", "message": "x"}, max_failures=2)
    other = register(database)
    (again,) = await queue.claimer.claim_rescued(other, ["agent"], 1)
    if ended:
        await end(queue, asked, other, attempt=again.number)
    before = thread(database)
    with pytest.raises(ThreadBusy):
        await queue.start_run_if_free(asked, owner)
    # So the request puts the run into the queue, and finds what has become of it.
    queued = await queue.enqueue(asked)
    assert (queued.replaced, queued.ended) == (None, ())
    assert thread(database) == before
    rows = database.execute("SELECT run_id, status, attempt FROM runs").fetchall()
    assert rows == [(asked.run_id, "success" if ended else "running", 2)]


@pytest.mark.parametrize("wrong", ["owner", "attempt", "status"])
async def test_an_end_by_anyone_else_changes_nothing(queue, database, wrong):
    owner, asked = register(database), request()
    await queue.start_run_if_free(asked, owner)
    if wrong == "status":
        await end(queue, asked, owner)
    how = RunEnd("error", "error", {"error": "E", "message": "m"}) if wrong == "status" else DONE
    with pytest.raises(LeaseLost):
        await end(
            queue,
            asked,
            uuid7() if wrong == "owner" else owner,
            how,
            attempt=2 if wrong == "attempt" else 1,
        )
    assert thread(database)[0] == ("idle" if wrong == "status" else "busy")


@pytest.mark.parametrize("how", ["expired", "lost", "missing"])
async def test_runs_of_lost_processes_end_as_error(queue, database, how):
    owner, asked = register(database), request()
    await queue.start_run_if_free(asked, owner)
    if how == "missing":
        database.execute("DELETE FROM processes")
    elif how == "lost":
        database.execute("UPDATE processes SET lost = true")
    else:
        database.execute("UPDATE processes SET heartbeat_at = now() - interval '11 seconds'")
    failed = await queue.takeover.take_runs_of_lost_processes(
        {"error": "ProcessLost", "message": "gone"}, max_failures=1
    )
    assert [run.run_id for run in failed] == [asked.run_id]
    assert thread(database)[:2] == ("error", None)
    row = database.execute("SELECT status, failures, error->>'error' FROM runs").fetchone()
    assert row == ("error", 1, "ProcessLost")
    with pytest.raises(LeaseLost):
        await end(queue, asked, owner)


async def test_runs_of_living_processes_are_left_alone(queue, database):
    asked = request()
    await queue.start_run_if_free(asked, register(database))
    assert (
        await queue.takeover.take_runs_of_lost_processes(
            {"error": "x", "message": "x"}, max_failures=1
        )
        == []
    )
    assert thread(database)[0] == "busy"


async def test_many_sweepers_at_once_take_each_run_once(queue, database):
    owner = register(database)
    asked = [request(f"t{number}") for number in range(20)]
    for one in asked:
        await queue.start_run_if_free(one, owner)
    database.execute("UPDATE processes SET lost = true")
    error = {"error": "ProcessLost", "message": "gone"}
    sweeps = await asyncio.gather(
        *[queue.takeover.take_runs_of_lost_processes(error, max_failures=1) for _ in range(6)]
    )
    taken = sorted(run.thread_id for sweep in sweeps for run in sweep)
    assert taken == sorted(one.thread_id for one in asked)


async def test_starts_ends_and_sweeps_together_leave_no_slot_behind(queue, database):
    """Every start under contention is ended or swept; no thread stays busy without a run."""
    owner, doomed = register(database), register(database)

    async def loop(number: int) -> None:
        for turn in range(12):
            asked = request(f"t{(number + turn) % 3}")
            mine = doomed if (number + turn) % 5 == 0 else owner
            try:
                await queue.start_run_if_free(asked, mine)
            except ThreadBusy:
                continue
            if mine is owner:
                await end(queue, asked, owner)

    async def sweep() -> None:
        for _ in range(8):
            database.execute("UPDATE processes SET lost = true WHERE process_id = %s", (doomed,))
            await queue.takeover.take_runs_of_lost_processes(
                {"error": "x", "message": "x"}, max_failures=1
            )

    await asyncio.gather(*[loop(number) for number in range(8)], sweep())
    await queue.takeover.take_runs_of_lost_processes({"error": "x", "message": "x"}, max_failures=1)
    assert database.execute("SELECT count(*) FROM threads WHERE status = 'busy'").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM runs WHERE ended_at IS NULL").fetchone() == (0,)


async def test_a_server_default_of_repeatable_read_changes_nothing(database_url):
    with psycopg.connect(database_url, autocommit=True) as database:
        name = database.info.dbname
        database.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        )
        owner = register(database)
    async with open_pool(database_url, pool_max=8) as pool, open_writer(pool) as writer:
        queue = Queue(pool, writer)
        tries = [queue.start_run_if_free(request(), owner) for _ in range(16)]
        results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, ThreadBusy) for result in results) == 15


def test_every_statement_has_a_name_and_a_user():
    """Each begins with its name alone on a line, and code of the package asks for that name."""
    words = {
        node.value
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = set(queue_statements())
    assert names - words == set()
    text = resources.files("headrace.queue").joinpath("queue.sql").read_text()
    head, *statements = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    # Nothing but comments stands before the first name, and each name stands once.
    assert all(line.startswith("--") for line in head.splitlines() if line)
    assert sorted(names) == sorted(statements[::2])


@pytest.fixture
def assistant(database):
    """The id of an assistant, and when it was last changed."""
    return database.execute(
        "INSERT INTO assistants (assistant_id, graph_id, name) VALUES (%s, 'agent', 'A')"
        " RETURNING assistant_id, updated_at",
        (uuid7(),),
    ).fetchone()


def of_assistant(assistant, **changes):
    assistant_id, updated_at = assistant
    return replace(request(), assistant_id=assistant_id, assistant_updated_at=updated_at, **changes)


def change(database, assistant):
    database.execute(
        "UPDATE assistants SET updated_at = now() WHERE assistant_id = %s", (assistant[0],)
    )


async def test_a_run_starts_or_waits_from_what_its_assistant_is(queue, database, assistant):
    await queue.start_run_if_free(of_assistant(assistant), register(database))
    await queue.enqueue(of_assistant(assistant))
    assert runs_by_status(database) == {"running": 1, "pending": 1}


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "deleted"])
async def test_a_run_never_starts_from_what_its_assistant_was(queue, database, assistant, gone):
    owner = register(database)
    await queue.start_run_if_free(of_assistant(assistant), owner)
    if gone:
        database.execute("DELETE FROM assistants WHERE assistant_id = %s", (assistant[0],))
    else:
        change(database, assistant)
    with pytest.raises(AssistantChanged):
        await queue.start_run_if_free(of_assistant(assistant, thread_id="other"), owner)
    for strategy in ("enqueue", "interrupt", "rollback"):
        with pytest.raises(AssistantChanged):
            await queue.enqueue(of_assistant(assistant, multitask_strategy=strategy))
    # Nor does a run make way for one that does not come.
    assert runs_by_status(database) == {"running": 1}
    assert database.execute(
        "SELECT count(*) FROM runs WHERE cancel_action IS NOT NULL"
    ).fetchone() == (0,)


def runs_by_status(database):
    return dict(database.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall())


async def test_a_thread_is_fresh_until_something_is_stored_for_it(queue, database):
    owner = register(database)
    first = request()
    assert (await queue.start_run_if_free(first, owner)).fresh_thread
    database.execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES ('used', '1', '{}')"
    )
    assert not (await queue.start_run_if_free(request("used"), owner)).fresh_thread
