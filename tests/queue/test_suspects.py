"""Runs that processes were lost with: who is to blame, and who is claimed when."""

import pytest

from headrace.queue.queue import Queue
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.runs import expire_process, register_process, run_request

GRAPHS = ["agent"]
LOST = {"error": "ProcessLost", "message": "gone"}


@pytest.fixture
async def queue(database_url):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        yield Queue(pool, writer)


async def started(queue, owner, *names):
    """Runs that a process executes, each on a thread of its own."""
    requests = [run_request(name) for name in names]
    for asked in requests:
        await queue.start_run_if_free(asked, owner)
    return requests


async def lose(queue, database, owner, *, max_failures=3, after_seconds=1.0):
    """The process dies so long after its runs began; thread to status and failures of each."""
    database.execute(
        "UPDATE runs SET started_at = clock_timestamp() - make_interval(secs => %s)"
        " WHERE process_id = %s",
        (60 + after_seconds, owner),
    )
    expire_process(database, owner)
    taken = await queue.takeover.take_runs_of_lost_processes(
        LOST, max_failures=max_failures, apart_seconds=10
    )
    return {run.thread_id: (run.status, run.failures) for run in taken}


async def claim_suspect(queue, owner):
    return [one.request.thread_id for one in await queue.claimer.claim_suspect(owner, GRAPHS)]


async def claim(queue, owner):
    return [one.request.thread_id for one in await queue.claimer.claim(owner, GRAPHS, 20)]


async def claim_rescued(queue, owner, limit=20):
    return [
        one.request.thread_id for one in await queue.claimer.claim_rescued(owner, GRAPHS, limit)
    ]


async def become_suspects(queue, database, *names, **given):
    """Two processes are lost that execute all of them."""
    owner = register_process(database)
    await started(queue, owner, *names)
    await lose(queue, database, owner, **given)
    owner = register_process(database)
    assert sorted(await claim(queue, owner)) == sorted(names)
    lost = await lose(queue, database, owner, **given)
    assert lost == dict.fromkeys(names, ("pending", 2))


async def test_after_the_first_loss_runs_go_on_together_before_others(queue, database):
    owner = register_process(database)
    await started(queue, owner, "a", "b", "c")
    await queue.enqueue(run_request("fresh"))
    assert await lose(queue, database, owner) == dict.fromkeys("abc", ("pending", 1))
    other = register_process(database)
    waiting = await queue.claimer.lost_runs(other, GRAPHS, apart_seconds=10)
    assert (waiting.rescued, waiting.suspects) == (3, None)
    assert await claim_suspect(queue, other) == []
    # The oldest first, and none of those that were never begun.
    assert sorted(await claim_rescued(queue, other, 2)) == ["a", "b"]
    assert await claim_rescued(queue, other) == ["c"]
    assert (await queue.claimer.lost_runs(other, GRAPHS, apart_seconds=10)).rescued == 0
    assert await claim(queue, other) == ["fresh"]


async def test_a_run_that_kills_ends_and_those_beside_it_do_not(queue, database):
    """Each time that it is not alone, others are beside it that no process was lost with."""
    owner = register_process(database)
    await started(queue, owner, "kills", "a", "b")
    assert await lose(queue, database, owner) == dict.fromkeys(("kills", "a", "b"), ("pending", 1))
    owner = register_process(database)
    await started(queue, owner, "c")
    assert sorted(await claim(queue, owner)) == ["a", "b", "kills"]
    lost = await lose(queue, database, owner)
    assert lost == {**dict.fromkeys(("kills", "a", "b"), ("pending", 2)), "c": ("pending", 1)}
    owners = [register_process(database) for _ in range(3)]
    alone = {(await claim_suspect(queue, owner))[0]: owner for owner in owners}
    lost = await lose(queue, database, alone["kills"])
    assert lost == {"kills": ("error", 3)}


@pytest.mark.parametrize("max_failures", [2, 3, 5])
async def test_no_number_of_losses_beside_others_ends_a_run(queue, database, max_failures):
    owner = register_process(database)
    await started(queue, owner, "innocent", "neighbour")
    for losses in range(1, 8):
        lost = await lose(
            queue, database, owner, max_failures=max_failures, after_seconds=100_000 * 4**losses
        )
        assert lost["innocent"] == ("pending", min(losses, 2, max_failures - 1))
        owner = register_process(database)
        database.execute("UPDATE runs SET status = 'running', process_id = %s", (owner,))
        database.execute(
            "UPDATE threads SET running_run_id = ready_run_id, ready_run_id = NULL, ready_at = NULL"
        )


async def test_a_limit_that_was_lowered_ends_no_run_for_a_loss_that_is_not_its_own(queue, database):
    await become_suspects(queue, database, "a", "b")
    owner = register_process(database)
    assert await claim_suspect(queue, owner)
    assert await claim_suspect(queue, owner)
    lost = await lose(queue, database, owner, max_failures=2, after_seconds=100_000)
    assert lost == {"a": ("pending", 2), "b": ("pending", 2)}


async def test_two_failures_at_most_and_the_second_was_alone(queue, database):
    """The first loss makes a suspect then: so a run that kills ends after the second."""
    owner = register_process(database)
    await started(queue, owner, "a", "b")
    lost = await lose(queue, database, owner, max_failures=2)
    assert lost == {"a": ("pending", 1), "b": ("pending", 1)}
    owner = register_process(database)
    await queue.claimer.claim(owner, GRAPHS, 1)
    (ended,) = (await lose(queue, database, owner, max_failures=2)).values()
    assert ended == ("error", 2)


async def test_suspects_are_claimed_one_at_a_time_and_not_with_others(queue, database):
    await become_suspects(queue, database, "a", "b", "c")
    other = register_process(database)
    await queue.enqueue(run_request("fresh"))
    assert await claim_rescued(queue, other) == []
    assert await claim(queue, other) == ["fresh"]
    waiting = (await queue.claimer.lost_runs(other, GRAPHS, apart_seconds=10)).suspects
    assert (waiting.executing, waiting.processes, waiting.older) == (0, 1, 0)
    found = [await claim_suspect(queue, other) for _ in range(4)]
    assert sorted(map(tuple, found)) == [(), ("a",), ("b",), ("c",)]
    assert (await queue.claimer.lost_runs(other, GRAPHS, apart_seconds=10)).suspects is None


async def test_a_second_loss_together_makes_suspects_and_counts_no_further(queue, database):
    await become_suspects(queue, database, "a", "b")
    for _ in range(5):
        # They have outlived the time apart, and their process is lost again.
        owner = register_process(database)
        assert await claim_suspect(queue, owner)
        assert await claim_suspect(queue, owner)
        lost = await lose(queue, database, owner, after_seconds=100_000)
        assert lost == {"a": ("pending", 2), "b": ("pending", 2)}
        database.execute("UPDATE runs SET lived_seconds = 1")


async def test_a_run_that_was_alone_is_to_blame(queue, database):
    owner = register_process(database)
    await started(queue, owner, "a")
    assert await lose(queue, database, owner) == {"a": ("pending", 1)}
    for expected in [("pending", 2), ("error", 3)]:
        owner = register_process(database)
        again = claim_rescued if expected == ("pending", 2) else claim_suspect
        assert await again(queue, owner) == ["a"]
        assert await lose(queue, database, owner) == {"a": expected}


async def test_a_suspect_that_was_to_be_alone_is_to_blame_for_those_beside_it(queue, database):
    await become_suspects(queue, database, "a", "b", after_seconds=20)
    owner = register_process(database)
    (suspect,) = await claim_suspect(queue, owner)
    await started(queue, owner, "innocent")
    # Longer than the setting, not longer than twice what it had lived.
    lost = await lose(queue, database, owner, after_seconds=30)
    assert lost == {suspect: ("error", 3), "innocent": ("pending", 0)}
    assert await claim(queue, register_process(database)) == ["innocent"]


async def test_with_one_failure_allowed_no_run_is_tried_again(queue, database):
    owner = register_process(database)
    await started(queue, owner, "a", "b")
    lost = await lose(queue, database, owner, max_failures=1)
    assert lost == {"a": ("error", 1), "b": ("error", 1)}


async def test_neither_claim_looks_through_the_queue(queue, database):
    """The suspects' index is used on a database that was never analyzed, behind 20,000 others."""
    database.execute("""
        INSERT INTO threads
          (thread_id, tenant, owner, status, ready_at, ready_run_id, ready_graph_id)
        SELECT 't' || n, 'default', 'o', 'busy', now(), gen_random_uuid(), 'agent'
        FROM generate_series(1, 20000) AS n""")
    database.execute("""
        INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, status,
          multitask_strategy, metadata, kwargs, failures)
        SELECT ready_run_id, thread_id, gen_random_uuid(), 'agent', 'default', 'o', 'pending',
          'enqueue', '{}', '{}', 2 * (thread_id = 't777')::int
        FROM threads""")
    (plan,) = database.execute(
        "EXPLAIN (FORMAT JSON) SELECT run_id, thread_id FROM runs"
        " WHERE failures > 0 AND failures >= 2"
        " AND status = 'pending' AND cancel_action IS NULL LIMIT 1000"
    ).fetchone()
    assert "runs_suspected_idx" in str(plan)
    owner = register_process(database)
    assert await claim_suspect(queue, owner) == ["t777"]
