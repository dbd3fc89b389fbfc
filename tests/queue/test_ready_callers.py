"""Whose runs wait: asked without looking through the queue of a caller who has many."""

from dataclasses import replace
from uuid import UUID

import psycopg

from headrace.auth.principal import ANONYMOUS
from headrace.queue.ends import queue_statements
from headrace.queue.ready_callers import ReadyCallers
from headrace.shares import Places
from headrace.worker.fairness import fair_share
from tests.support.runs import register_process, run_request


async def enqueue(queue, caller, *thread_ids):
    for thread_id in thread_ids:
        principal = replace(ANONYMOUS, caller=caller)
        await queue.enqueue(run_request(thread_id, principal=principal))


def fill(database, caller, count, *, seconds_ago):
    """Runs that wait, each on a thread of its own."""
    database.execute(
        "WITH ready AS ("
        " INSERT INTO threads (thread_id, tenant, owner, status, ready_at, ready_run_id,"
        " ready_graph_id, ready_caller)"
        " SELECT %(caller)s || number, 'default', 'anonymous', 'busy',"
        " now() - make_interval(secs => %(seconds)s + number / 1e6), gen_random_uuid(), 'agent',"
        " %(caller)s FROM generate_series(1, %(count)s) AS number"
        " RETURNING thread_id, ready_run_id)"
        " INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, caller)"
        " SELECT ready_run_id, thread_id, %(assistant)s, 'agent', 'default', 'anonymous',"
        " %(caller)s FROM ready",
        {"caller": caller, "count": count, "seconds": seconds_ago, "assistant": UUID(int=1)},
    )


async def found(queue, limit=20):
    return {one.caller: one.runs for one in await queue.callers.ready(["agent"], limit)}


async def claim(queue, owner, places, limit=20):
    ready = await queue.callers.ready(["agent"], limit)
    claimed = await queue.claimer.claim_for_callers(
        owner, ["agent"], fair_share(places, ready, limit)
    )
    return [one.request.principal.caller for one in claimed]


async def test_each_caller_is_told_with_as_many_runs_as_are_asked_for(queue, database):
    assert await found(queue) == {}
    await enqueue(queue, "b", "b1")
    await enqueue(queue, "", "n1", "n2", "n2")
    await enqueue(queue, "a", *(f"a{number}" for number in range(5)))
    assert await found(queue, limit=3) == {"": 2, "a": 3, "b": 1}
    assert await queue.callers.pending() == {"": 3, "a": 5, "b": 1}


async def test_a_claimed_run_knows_its_caller_and_its_thread_forgets_it(queue, database):
    await enqueue(queue, "a", "t", "t")
    owner = register_process(database)
    assert await claim(queue, owner, Places(4, 0.75)) == ["a"]
    assert database.execute("SELECT ready_caller FROM threads").fetchone() == ("",)
    assert await found(queue) == {}


async def test_of_ten_thousand_before_it_a_run_of_another_caller_waits_for_none(queue, database):
    fill(database, "a", 10_000, seconds_ago=60)
    fill(database, "b", 1, seconds_ago=1)
    database.execute("ANALYZE threads, runs")
    claimed = await claim(queue, register_process(database), Places(4, 0.75), 2)
    assert sorted(claimed) == ["a", "b"]


def blocks_read(database, name, values):
    """Pages that the statement looks at, in memory or not."""
    ((plan,),) = database.execute(
        b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + queue_statements()[name], values
    ).fetchall()
    top = plan[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


async def test_neither_statement_reads_the_queue_of_a_caller_who_has_many(queue, database):
    fill(database, "a", 10_000, seconds_ago=60)
    fill(database, "b", 1, seconds_ago=1)
    database.execute("ANALYZE threads, runs")
    values = {
        "since": "",
        "floor": "1970-01-01Z",
        "bound": 1000,
        "limit": 20,
        "graph_ids": ["agent"],
        "callers": ["a", "b"],
        "floors": ["1970-01-01Z", "1970-01-01Z"],
        "turns": [19, 1],
        "suspect_failures": 2,
    }
    for name in ("ready_callers", "lock_ready_threads_of_callers"):
        assert blocks_read(database, name, values) < 150


async def test_what_a_caller_left_long_ago_is_found_after_later_runs_of_others(queue, database):
    """Claims are not in the order of time: what has waited longest may be left."""
    fill(database, "a", 50, seconds_ago=600)
    owner, places = register_process(database), Places(8, 0.75)
    for _ in range(6):
        places.hold("a")
    for number in range(3):
        await enqueue(queue, "b", f"late{number}")
        assert await claim(queue, owner, places) == ["b"]
    assert await found(queue) == {"a": 20}


async def test_suspects_and_graphs_of_others_are_passed_over(queue, database):
    await enqueue(queue, "a", "suspect")
    await enqueue(queue, "b", "elsewhere")
    await enqueue(queue, "c", "mine")
    database.execute("UPDATE runs SET failures = 2 WHERE thread_id = 'suspect'")
    database.execute("UPDATE threads SET ready_graph_id = 'other' WHERE thread_id = 'elsewhere'")
    assert await found(queue) == {"c": 1}


async def test_what_another_process_works_on_is_passed_over(queue, database_url, database):
    await enqueue(queue, "a", "first", "second")
    ready = await queue.callers.ready(["agent"], 20)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT 1 FROM threads WHERE thread_id = 'first' FOR NO KEY UPDATE")
        (chosen,) = fair_share(Places(4, 1.0), ready, 1)
        (claimed,) = await queue.claimer.claim_for_callers(
            register_process(database), ["agent"], [chosen]
        )
    assert claimed.request.thread_id == "second"


async def test_more_callers_than_are_looked_at_at_once_come_in_turn(pool, queue):
    for caller in "abcde":
        await enqueue(queue, caller, caller)
    callers = ReadyCallers(pool, suspect_failures=2, max_callers=2)
    seen = ["".join(one.caller for one in await callers.ready(["agent"], 20)) for _ in range(5)]
    assert seen == ["ab", "bc", "cd", "de", "e"]
