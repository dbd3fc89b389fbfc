"""How lists reach their pages: through which index, in how many queries, and at no run's cost."""

from typing import Any

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.store.memory import InMemoryStore

from headrace.auth.principal import ANONYMOUS
from headrace.db.pool_builder import build_pool
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from_objects
from headrace.queue.ends import RunEnd
from headrace.queue.queue import Queue
from headrace.states.reader import StateReader
from headrace.threads.listing import ThreadListing
from headrace.threads.schemas import ThreadFilter, ThreadSearch
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.search_sql import Order, near_page, page, planning, wanted
from headrace.threads.service import ThreadService
from loadtests.thread_search import fill
from tests.support.database import database_settings, open_pool
from tests.support.engine import open_saver, open_writer
from tests.support.graphs.graphs import agent
from tests.support.runs import DONE, register_process, run_request
from tests.support.waiting import eventually

THREADS = 20_000


@pytest.fixture(scope="module")
def filled(module_database):
    fill(module_database, THREADS)
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


def plan(connection, which, *, offset=0, near=False, gathered=False, by="created_at"):
    deep = offset > 1000
    what, order = wanted(ANONYMOUS, ThreadFilter.model_validate(which), deep=deep), Order(by)
    statement = near_page(what, order, end=11) if near else page(what, order, gathered=gathered)
    values = {**what.values, "limit": 11, "offset": offset}
    if "metadata" in values:
        values["metadata"] = psycopg.types.json.Jsonb(values["metadata"])
    with connection.transaction():
        connection.execute(planning(what, order, deep=deep))
        found = connection.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", values)
        return "\n".join(row[0] for row in found)


@pytest.mark.parametrize(
    ("which", "options", "node"),
    [
        ({}, {}, "Index Only Scan using threads_newest_idx"),
        ({}, {"offset": 10_000}, "Index Only Scan using threads_newest_idx"),
        ({"status": "error"}, {}, "Scan using threads_halted_status_idx"),
        ({"status": "interrupted"}, {}, "Scan using threads_halted_status_idx"),
        ({"status": "idle"}, {}, "Scan using threads_halted_status_idx"),
        ({"status": "idle"}, {"offset": 9000}, "Index Only Scan using threads_halted_status_idx"),
        ({"status": "busy"}, {"gathered": True}, "runs"),
        ({"metadata": {"graph_id": "agent"}}, {"near": True}, "Scan using threads_newest_idx"),
        ({"metadata": {"user": "user-5"}}, {"gathered": True}, "Scan on threads_metadata_idx"),
        ({"metadata": {"team": 5}}, {"offset": 9000}, "threads_metadata_idx"),
        (
            {"metadata": {"graph_id": "agent"}},
            {"offset": 9000},
            "Index Only Scan using threads_newest_idx",
        ),
    ],
)
def test_no_list_reads_all_threads(filled, which, options, node):
    told = plan(filled, which, **options)
    assert node in told, told
    # Busy ones are looked up one by one, or, where they are many for so few threads, in all.
    assert "Seq Scan on threads" not in told or which == {"status": "busy"}, told
    # Eleven rows may be sorted, more are read in order.
    assert "top-N" not in told or options.get("gathered"), told


@pytest.mark.parametrize("held", ["agent", "x" * 255, "x" * 256, "", 5, None, ["agent"]])
async def test_deep_pages_and_counts_find_what_shallow_ones_do(database_url, held):
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO threads (thread_id, metadata)"
            " SELECT n::text, CASE WHEN n > 3 THEN %s ELSE '{}' END"
            " FROM generate_series(1, 6) AS n",
            (psycopg.types.json.Jsonb({"graph_id": held, "team": 1}),),
        )
        database.execute("UPDATE threads SET metadata = '{}' WHERE thread_id = '6'")
    async with open_pool(database_url) as pool:
        repository = ThreadSearchRepository(pool, timeout_seconds=5)
        most: Any = {"max_bytes": 1024 * 1024}
        for metadata in ({"graph_id": held}, {"graph_id": held, "team": 1}):
            which = ThreadFilter(metadata=metadata)
            shallow = await repository.page(ANONYMOUS, which, Order(), limit=10, offset=0, **most)
            deep = await repository.page(ANONYMOUS, which, Order(), limit=1001, offset=0, **most)
            found = {row.thread_id for row in shallow.rows}
            assert found == {row.thread_id for row in deep.rows}
            assert deep.found == await repository.count(ANONYMOUS, which) == 2


async def test_starts_and_ends_of_runs_touch_no_index_of_threads(database_url):
    threads, rounds = 60, 3
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        queue = Queue(pool, writer)
        with psycopg.connect(database_url, autocommit=True) as database:
            process_id = register_process(database)
        for _ in range(rounds):
            for number in range(threads):
                request = run_request(f"t{number}")
                attempt = await queue.start_run_if_free(request, process_id)
                await queue.end_if_owned(attempt.token, request.thread_id, DONE)
    # The first run of a thread inserts it busy.
    changes = 2 * threads * rounds - threads
    assert await updates(database_url, changes) == (changes, changes)


async def test_only_runs_that_fail_touch_the_index_of_statuses(database_url):
    async with open_pool(database_url) as pool, open_writer(pool) as writer:
        queue = Queue(pool, writer)
        with psycopg.connect(database_url, autocommit=True) as database:
            process_id = register_process(database)
            halted = []
            for end in (DONE, RunEnd("error", "error", {"error": "E", "message": "m"}), DONE):
                request = run_request()
                attempt = await queue.start_run_if_free(request, process_id)
                halted.append(told(database))
                await queue.end_if_owned(attempt.token, "t", end)
                halted.append(told(database))
    assert halted == [None, None, None, "error", None, None]
    assert await updates(database_url, 5) == (5, 3)


def told(database):
    return database.execute("SELECT halted_status FROM threads").fetchone()[0]


async def updates(url, expected):
    """Updates of threads, and those of them that were HOT; counted once their sessions have ended.

    Postgres writes its statistics down some time after that.
    """
    with psycopg.connect(url, autocommit=True) as database:

        def counted():
            return database.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'threads'"
            ).fetchone()

        await eventually(lambda: counted()[0] >= expected)
        return counted()


async def test_a_page_and_its_values_are_two_queries(database_url):
    taken = []
    settings = database_settings(database_url)
    pool = build_pool(
        settings,
        behind_pooler=False,
        on_checkout=lambda seconds, timed_out: taken.append(seconds),
    )
    await pool.open(wait=True)
    try:
        async with open_saver(pool) as saver:
            registry = await GraphRegistry.open(
                sources_from_objects({"agent": agent}), checkpointer=saver, store=InMemoryStore()
            )
            states = StateReader(registry, saver)
            service = ThreadService(None, states, None, None, None)  # type: ignore[arg-type]
            listing = ThreadListing(ThreadSearchRepository(pool, timeout_seconds=5), service)
            with psycopg.connect(database_url, autocommit=True) as database:
                for number in range(50):
                    config: RunnableConfig = {"configurable": {"thread_id": f"t{number}"}}
                    await registry.get("agent").ainvoke({"messages": [("user", "hi")]}, config)
                    database.execute(
                        "INSERT INTO threads (thread_id, metadata, state_updated_at)"
                        """ VALUES (%s, '{"graph_id": "agent"}', now())""",
                        (f"t{number}",),
                    )
            taken.clear()
            whole = await listing.search(ANONYMOUS, ThreadSearch(limit=50))
            assert [len(one["values"]["messages"]) for one in whole.threads] == [2] * 50
            assert len(taken) == 2
            taken.clear()
            bare = await listing.search(
                ANONYMOUS, ThreadSearch(limit=50, select=["thread_id", "status"])
            )
            assert len(bare.threads) == 50
            assert len(taken) == 1
            await registry.close()
    finally:
        await pool.close()
