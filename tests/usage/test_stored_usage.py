"""What a run has used is stored with its checkpoints and its end, and outlives run and thread."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph, add_messages

from headrace.checkpoints.tally import Tokens, UsageTally
from headrace.checkpoints.usage_rows import StoreUsage
from headrace.errors import LeaseLost
from headrace.ids import uuid7
from headrace.queue.queue import Queue
from headrace.queue.rows import StopRequest
from headrace.usage.repository import UsageRepository
from headrace.usage.retention import UsageSweeper
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_writer
from tests.support.exposition import Exposition
from tests.support.openai_server import openai_server
from tests.support.proxy import proxied
from tests.support.runs import DONE, insert_running_run, register_process, run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS, open_worker

langchain_openai = pytest.importorskip(
    "langchain_openai", reason="headrace[models] is not installed"
)

USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
GIVEN = {"messages": [("user", "hello there")]}


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


@pytest.fixture
def server():
    with openai_server() as running:
        running.usage = USAGE
        yield running


def model_of(server, **options):
    return langchain_openai.ChatOpenAI(
        model="gpt-5", api_key="sk-test", base_url=server.url, max_retries=0, **options
    )


def asking(server, **options):
    async def node(state):
        return {"messages": [await model_of(server, **options).ainvoke(state["messages"])]}

    return node


def graph_of(*nodes):
    graph = StateGraph(State)
    names = [f"node{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph


def run_of(thread_id="t", **kwargs):
    return replace(run_request(thread_id), kwargs={**KWARGS, "input": GIVEN, **kwargs})


def usage(database, columns="attempt, calls, input_tokens, output_tokens"):
    return database.execute(f"SELECT {columns} FROM run_usage ORDER BY run_id, attempt").fetchall()


async def ended(worker, request):
    outcome = await (await worker.submit(request)).outcome(20)
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_calls_of_a_run_are_one_row_that_says_whose_they_are(
    server, database_url, database, engine
):
    graph, groups = graph_of(*[asking(server)] * 3), {"checkpointer": {"engine": engine}}
    request = run_of()
    async with open_worker(database_url, graph=graph, groups=groups) as worker:
        assert (await ended(worker, request)).status == "success"
    whose = "run_id, model, tenant, owner, thread_id, assistant_id, graph_id"
    assert usage(database, whose) == [
        (request.run_id, "gpt-5", "default", "anonymous", "t", request.assistant_id, "agent")
    ]
    assert usage(database) == [(1, 3, 60, 21)]


async def test_a_run_without_a_model_stores_nothing(database_url, database):
    async def node(state):
        return {}

    async with open_worker(database_url, graph=graph_of(node)) as worker:
        execution = await worker.submit(run_of())
        await execution.outcome(20)
        assert execution.usage.totals() == {}
    assert usage(database) == []


async def test_what_was_used_is_stored_with_the_checkpoint_after_it(server, database_url, database):
    goes_on = asyncio.Event()

    async def waiting(state):
        await goes_on.wait()

    async with open_worker(database_url, graph=graph_of(asking(server), waiting)) as worker:
        execution = await worker.submit(run_of(durability="sync"))
        await eventually(lambda: usage(database) == [(1, 1, 20, 7)])
        goes_on.set()
        await execution.outcome(20)
    assert usage(database) == [(1, 1, 20, 7)]


async def test_the_figures_share_the_transactions_of_checkpoints_and_end(server, database_url):
    """A run that asks models makes no more flushes than one that does not."""

    async def silent(state):
        return {"messages": [("ai", "hi")]}

    flushes: list[float] = []
    for node in (silent, asking(server)):
        async with open_worker(database_url, graph=graph_of(node, node)) as worker:
            metrics = worker._metrics
            before = _committed(metrics)
            await ended(worker, run_of(f"thread-{len(flushes)}", durability="sync"))
            flushes.append(_committed(metrics) - before)
    assert flushes[1] <= flushes[0]


def _committed(metrics):
    text = metrics.render().decode()
    return Exposition(text).count("headrace_flushes_total", outcome="committed")


async def test_a_failed_run_and_a_run_that_is_cancelled_in_mid_stream_are_counted(
    server, database_url, database
):
    first = asyncio.Event()

    async def failing(state):
        raise ValueError("no")

    async def streaming(state):
        server.go_on.clear()
        async for chunk in model_of(server, stream_usage=True).astream("hello"):
            if chunk.text:
                first.set()

    async with open_worker(database_url, graph=graph_of(asking(server), failing)) as worker:
        assert (await ended(worker, run_of("t1"))).status == "error"
    async with open_worker(database_url, graph=graph_of(asking(server), streaming)) as worker:
        execution = await worker.submit(run_of("t2"))
        await asyncio.wait_for(first.wait(), 10)
        execution.cancel("enough", "client")
        assert (await execution.outcome(20)).status == "interrupted"
        server.go_on.set()
    # The call that broke off has not said what it used.
    assert usage(database) == [(1, 1, 20, 7), (1, 2, 20, 7)]


async def test_a_run_that_is_rolled_back_was_made_all_the_same(server, database_url, database):
    waits = asyncio.Event()

    async def waiting(state):
        await waits.wait()

    async with open_worker(database_url, graph=graph_of(asking(server), waiting)) as worker:
        execution = await worker.submit(run_of(durability="exit"))
        await eventually(lambda: execution.usage.totals())
        execution.stop_as_asked(StopRequest("rollback"))
        await execution.outcome(20)
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert usage(database) == [(1, 1, 20, 7)]


async def test_calls_that_no_checkpoint_has_brought_are_stored_before_a_rollback(
    database_url, database
):
    token = insert_running_run(database, register_process(database), "t")
    async with open_pool(database_url) as pool, open_writer(pool, lanes=1) as writer:
        await Queue(pool, writer).roll_back_if_owned(token, "t", usage=tally_of(token))
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert usage(database) == [(1, 1, 10, 2)]


async def test_figures_outlive_their_thread(server, database_url, database):
    async with open_worker(database_url, graph=graph_of(asking(server))) as worker:
        await ended(worker, run_of())
    database.execute("DELETE FROM threads")
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert usage(database) == [(1, 1, 20, 7)]


def tally_of(token, thread_id="t", calls=1):
    tally = UsageTally(token, thread_id)
    for _ in range(calls):
        tally.add("gpt-5", Tokens(10, 2, 3, 1))
    return tally


@pytest.mark.parametrize("fault", ["drop", "drop_answer"])
async def test_a_flush_that_is_repeated_counts_once(database_url, database, fault):
    token = insert_running_run(database, register_process(database), "t")
    async with (
        proxied(database_url) as proxy,
        open_pool(proxy.url) as pool,
        open_writer(pool, lanes=1) as writer,
    ):
        commit = proxy.next_commit(fault)
        tally = tally_of(token, calls=2)
        run = writer.begin(token, waits_each=False, fresh_thread=None)
        await Queue(pool, writer).end_if_owned(token, "t", DONE, run=run, usage=tally)
        assert commit.reached.is_set()
        assert not tally.changed
    columns = "calls, input_tokens, output_tokens, cached_tokens, reasoning_tokens"
    assert usage(database, columns) == [(2, 20, 4, 6, 2)]


async def test_earlier_figures_do_not_replace_later_ones(database_url, database):
    token = insert_running_run(database, register_process(database), "t")
    async with open_pool(database_url) as pool, open_writer(pool, lanes=1) as writer:
        tally = tally_of(token)
        early = StoreUsage(tally)
        tally.add("gpt-5", Tokens(10, 2))
        await writer.commit(StoreUsage(tally))
        await writer.commit(early)
    assert usage(database) == [(1, 2, 20, 4)]


async def test_figures_that_cannot_be_stored_wait_for_the_next_write_and_fail_no_run(
    database_url, database
):
    token = insert_running_run(database, register_process(database), "t")
    async with open_pool(database_url) as pool, open_writer(pool, lanes=1) as writer:
        tally = UsageTally(token, "t")
        # Postgres takes no such text.
        tally.add("a\x00b", Tokens(1, 1))
        await writer.queue_usage(tally)
        await Queue(pool, writer).end_if_owned(token, "t", DONE)
        assert tally.changed
    assert database.execute("SELECT status FROM runs").fetchone() == ("success",)
    assert usage(database) == []


@pytest.mark.parametrize("lost", ["attempt", "process"])
async def test_a_process_that_has_lost_the_run_stores_nothing(database_url, database, lost):
    token = insert_running_run(database, register_process(database), "t")
    stale = replace(token, attempt=0) if lost == "attempt" else replace(token, process_id=uuid7())
    async with open_pool(database_url) as pool, open_writer(pool, lanes=1) as writer:
        with pytest.raises(LeaseLost):
            await writer.commit(StoreUsage(tally_of(stale)))
    assert usage(database) == []


def insert_usage(database, *, days_ago=0.0, owner="anonymous", **columns):
    given = {
        "run_id": uuid7(),
        "attempt": 1,
        "model": "gpt-5",
        "owner": owner,
        "thread_id": "t",
        "assistant_id": uuid7(),
        "graph_id": "agent",
        "calls": 1,
        "input_tokens": 20,
        "output_tokens": 7,
        **columns,
    }
    database.execute(
        f"INSERT INTO run_usage ({', '.join(given)}, created_at)"
        f" VALUES ({', '.join(['%s'] * len(given))}, now() - make_interval(secs => %s))",
        (*given.values(), days_ago * 86_400),
    )
    return given["run_id"]


async def test_figures_are_kept_for_their_days_and_then_deleted(database_url, database):
    for days in range(10):
        insert_usage(database, days_ago=days + 0.5)
    async with open_pool(database_url) as pool:
        sweeper = UsageSweeper(UsageRepository(pool), keep_seconds=4 * 86_400, interval_seconds=1)
        assert [await sweeper.sweep() for _ in range(2)] == [6, 0]
    assert len(usage(database)) == 4


async def test_a_round_deletes_all_old_figures_however_many_there_are(database_url, database):
    insert_usage(database)
    database.execute(
        "INSERT INTO run_usage (run_id, attempt, model, thread_id, assistant_id, graph_id,"
        " created_at) SELECT gen_random_uuid(), 1, 'gpt-5', 't', gen_random_uuid(), 'agent',"
        " now() - interval '9 days' FROM generate_series(1, 2500)"
    )
    async with open_pool(database_url) as pool:
        sweeper = UsageSweeper(UsageRepository(pool), keep_seconds=4 * 86_400, interval_seconds=1)
        assert await sweeper.sweep() == 2500
    assert len(usage(database)) == 1


async def test_earlier_attempts_count_in_the_budget_of_a_run(server, database_url, database):
    groups = {"usage": {"run_tokens": 100}}
    async with open_worker(
        database_url, graph=graph_of(*[asking(server)] * 2), groups=groups, enabled=False
    ) as worker:
        request = run_of()
        await worker.submit(request)
    insert_usage(database, run_id=request.run_id, attempt=1, input_tokens=60, output_tokens=14)
    database.execute("UPDATE runs SET attempt = 1")
    async with open_worker(database_url, graph=graph_of(*[asking(server)] * 2), groups=groups):
        await eventually(lambda: _status(database)[0] == "error")
    assert _status(database) == (
        "error",
        "TokenBudgetExceeded",
        "This run has used 101 tokens; HEADRACE_USAGE__RUN_TOKENS is 100.",
    )
    assert usage(database) == [(1, 1, 60, 14), (2, 1, 20, 7)]


def _status(database):
    return database.execute(
        "SELECT status, error->>'error', error->>'message' FROM runs ORDER BY run_id DESC"
    ).fetchone()


async def test_a_thread_has_a_budget_for_all_its_runs(server, database_url, database):
    groups = {"usage": {"thread_tokens": 54}}
    async with open_worker(database_url, graph=graph_of(asking(server)), groups=groups) as worker:
        outcomes = [(await ended(worker, run_of())).status for _ in range(3)]
        elsewhere = await ended(worker, run_of("another"))
    assert outcomes == ["success", "success", "error"]
    assert elsewhere.status == "success"
    assert len(server.requests) == 3


async def test_an_owner_has_a_budget_for_a_day(server, database_url, database):
    insert_usage(database, input_tokens=40, output_tokens=14)
    insert_usage(database, owner="somebody else", input_tokens=10**6)
    # Whenever the test runs, that was another day.
    insert_usage(database, days_ago=1.1, input_tokens=10**6)
    async with open_worker(
        database_url,
        graph=graph_of(asking(server)),
        groups={"usage": {"owner_tokens_per_day": 60}},
    ) as worker:
        outcome = await ended(worker, run_of())
    assert outcome.error == {
        "error": "TokenBudgetExceeded",
        "message": "The runs of this owner have used 81 tokens today (UTC);"
        " HEADRACE_USAGE__OWNER_TOKENS_PER_DAY is 60.",
    }


async def test_a_graph_that_asks_no_model_needs_no_budget(database_url, database):
    insert_usage(database)

    async def node(state):
        return {}

    groups = {"usage": {"thread_tokens": 1}}
    async with open_worker(database_url, graph=graph_of(node), groups=groups) as worker:
        assert (await ended(worker, run_of())).status == "success"
