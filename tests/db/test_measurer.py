"""The figures of tables, transactions and credentials are Postgres's own, and cost nobody much."""

import os
import threading
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import time

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.errors import QueryCanceled
from structlog.testing import capture_logs

from headrace.db.credentials import Credentials
from headrace.db.measurer import DatabaseMeasurer
from headrace.db.migrate import upgrade
from headrace.db.pool import SharedPool
from headrace.lifecycle import Tasks
from headrace.observability.figures import TableFigures
from headrace.observability.slots import Slot, StatusBoard, write_slot
from headrace.unavailable_errors import Unavailable
from tests.migrations.commands import run_headrace
from tests.support.chains import put
from tests.support.database import database_settings, open_pool
from tests.support.engine import open_saver
from tests.support.runs import register_process
from tests.support.waiting import eventually

ALONE = StatusBoard(None, stale_seconds=5.0)


def measurer_on(pool: SharedPool, url: str, board: StatusBoard = ALONE) -> DatabaseMeasurer:
    return DatabaseMeasurer(pool, board, Credentials(url), seconds=30.0)


@asynccontextmanager
async def measuring(url: str, **changes: object):
    async with open_pool(url, **changes) as pool:
        yield measurer_on(pool, url)


async def table(measurer: DatabaseMeasurer, name: str) -> TableFigures:
    await measurer.measure()
    assert measurer.figures is not None
    (found,) = [one for one in measurer.figures.tables if one.name == name]
    return found


def settle(database: psycopg.Connection) -> None:
    """Let Postgres count now what this session has done."""
    database.execute("SELECT pg_stat_force_next_flush()")
    database.execute("SELECT 1")


async def test_figures_of_a_table_are_what_happened_to_it(database_url, database):
    async with measuring(database_url) as measurer:
        before = await table(measurer, "processes")
        process_id = register_process(database)
        for _ in range(10):
            database.execute(
                "UPDATE processes SET heartbeat_at = now() WHERE process_id = %s", (process_id,)
            )
        database.execute("SET enable_indexscan = off")
        database.execute("SET enable_bitmapscan = off")
        database.execute("SELECT * FROM processes WHERE pid = 1")
        settle(database)
        after = await table(measurer, "processes")
        assert after.rows - before.rows == 1
        assert after.updates - before.updates == 10
        assert 0 < after.hot_updates - before.hot_updates <= 10
        assert after.dead_rows - before.dead_rows == 10
        assert after.sequential_scans - before.sequential_scans >= 1
        assert after.sequential_rows - before.sequential_rows >= 1
        total = database.execute("SELECT pg_total_relation_size('processes')").fetchone()
        assert (after.bytes,) == total
        assert not after.vacuumed
        database.execute("VACUUM processes")
        settle(database)
        clean = await table(measurer, "processes")
        assert clean.dead_rows == 0
        assert clean.since_vacuum_seconds < 60
        assert clean.vacuumed


@pytest.fixture
def own_schema_url(empty_database_url: str) -> str:
    """A database with headrace in a schema of its own, and a table of others with its name."""
    upgrade(database_settings(empty_database_url, schema="other-one"))
    with psycopg.connect(empty_database_url, autocommit=True) as database:
        database.execute("CREATE TABLE runs (theirs int)")
        database.execute('ANALYZE "other-one".schema_compat')
    return empty_database_url


async def test_tables_of_an_own_schema_are_measured(own_schema_url):
    async with measuring(own_schema_url, schema="other-one") as measurer:
        assert (await table(measurer, "runs")).rows == 0
        assert (await table(measurer, "schema_compat")).rows == 1
        assert measurer.figures is not None
        assert {one.name for one in measurer.figures.tables} >= {"checkpoints", "store"}
        assert measurer.figures.largest_thread_bytes == 0


async def test_the_oldest_transaction_holds_back_vacuum(database_url, database):
    async with measuring(database_url) as measurer:
        with psycopg.connect(database_url) as idle:
            idle.execute(
                "INSERT INTO schema_compat (only_row, min_revision) SELECT true, '0001' WHERE false"
            )
            idle.execute("SELECT pg_current_xact_id()")
            began = time()
            await eventually(lambda: time() - began > 0.2)
            await measurer.measure()
            assert measurer.figures is not None
            assert measurer.figures.oldest_transaction_seconds >= 0.2
            idle.rollback()
        await measurer.measure()
        assert measurer.figures.oldest_transaction_seconds < 0.2


async def test_a_vacuum_by_hand_holds_nothing_back(database_url, database):
    database.execute("CREATE TABLE large AS SELECT generate_series(1, 100000) AS n")
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SET vacuum_cost_limit = 1")
        other.execute("SET vacuum_cost_delay = '100ms'")

        def vacuum() -> None:
            # It takes minutes, unless it is cancelled.
            with suppress(QueryCanceled):
                other.execute("VACUUM large")

        def vacuums() -> bool:
            return database.execute("SELECT FROM pg_stat_progress_vacuum").fetchone() is not None

        vacuuming = threading.Thread(target=vacuum)
        vacuuming.start()
        try:
            await eventually(vacuums)
            async with measuring(database_url) as measurer:
                await measurer.measure()
                assert measurer.figures is not None
                assert measurer.figures.oldest_transaction_seconds == 0
        finally:
            other.cancel()
            vacuuming.join()


async def test_a_locked_table_costs_a_round_and_not_the_process(database_url):
    async with measuring(database_url) as measurer:
        await measurer.measure()
        with psycopg.connect(database_url) as holder:
            holder.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
            began = time()
            with pytest.raises(Unavailable):
                await measurer.measure()
            assert time() - began < 2
            assert measurer.figures is None
            holder.rollback()
        await measurer.measure()
        assert measurer.figures is not None


async def test_it_takes_no_connection_from_those_who_wait(database_url):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        measurer = measurer_on(pool, database_url)
        await measurer.measure()
        measured = measurer.figures
        holder = await pool.getconn()
        tasks = Tasks()
        waiting = tasks.start(pool.getconn(), name="waiting")
        await eventually(lambda: pool.is_wanted)
        await measurer.measure()
        assert measurer.figures is measured
        await pool.putconn(holder)
        await pool.putconn(await waiting)


async def test_one_process_of_the_pod_measures(database_url, tmp_path: Path):
    board = StatusBoard(tmp_path, stale_seconds=5.0)
    async with open_pool(database_url) as pool:
        measurer = measurer_on(pool, database_url, board)
        await measurer.measure()
        assert measurer.figures is not None
        write_slot(tmp_path, Slot(pid=1, state="serving", started_at=time(), written_at=time()))
        assert os.getpid() > 1
        await measurer.measure()
        assert measurer.figures is None


async def test_the_largest_of_the_recent_threads_is_measured(database_url, database):
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        for thread_id, size in (("small", 1), ("large", 200)):
            database.execute("INSERT INTO threads (thread_id) VALUES (%s)", (thread_id,))
            database.execute(
                "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, ended_at)"
                " VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'g', 'success', now())",
                (thread_id,),
            )
            # Random, so that Postgres cannot compress it.
            await put(saver, thread_id, 1, [os.urandom(1000) for _ in range(size)])
        measurer = measurer_on(pool, database_url)
        await measurer.measure()
        assert measurer.figures is not None
        assert 200_000 < (measurer.figures.largest_thread_bytes or 0) < 250_000


async def test_a_thread_that_takes_too_long_to_measure_leaves_the_figure_out(
    database_url, database, monkeypatch
):
    """The other figures are there."""
    database.execute("ALTER TABLE runs RENAME TO all_runs")
    database.execute(
        "CREATE VIEW runs AS SELECT gen_random_uuid() AS run_id, pg_sleep(5)::text AS thread_id"
    )
    async with measuring(database_url) as measurer:
        await measurer.measure()
    assert measurer.figures is not None
    assert measurer.figures.largest_thread_bytes is None


async def test_a_statement_that_postgres_refuses_is_told_and_fails_nothing(database_url, database):
    async with measuring(database_url) as measurer:
        database.execute("ALTER TABLE runs RENAME COLUMN run_id TO number")
        with capture_logs() as lines:
            await measurer.measure()
        assert measurer.figures is None
        (line,) = [line for line in lines if line["event"] == "database_not_measured"]
        assert "run_id" in line["error"]
        await measurer.measure()
        # The largest thread is not sought again so soon.
        assert measurer.figures is not None


async def test_the_password_says_when_it_expires(database_url, database):
    name = "expires_" + os.urandom(4).hex()
    database.execute(f"CREATE ROLE {name} LOGIN VALID UNTIL '2999-01-01'")
    database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    url = make_conninfo(database_url, user=name)
    try:
        async with measuring(url) as measurer:
            await measurer.measure()
            assert measurer.figures is not None
            assert measurer.figures.credentials["password"] > 900 * 365 * 86400
        database.execute(f"ALTER ROLE {name} VALID UNTIL 'infinity'")
        async with measuring(url) as measurer:
            await measurer.measure()
            assert measurer.figures is not None
            assert measurer.figures.credentials == {}
    finally:
        database.execute(f"DROP OWNED BY {name}")
        database.execute(f"DROP ROLE {name}")


async def test_the_command_lists_tables_and_the_largest_threads(database_url, database):
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        await put(saver, "small", 1, ["hi"])
        await put(saver, "large", 1, [os.urandom(1000) for _ in range(200)])
    done = run_headrace("db", "storage", "--threads", "1", database_url=database_url)
    assert done.returncode == 0, done.stderr
    tables, threads = done.stdout.split("\n\n")
    assert "checkpoint_blobs" in tables
    assert "run_usage" in tables
    (_, row) = threads.splitlines()
    thread_id, size = row.split()
    assert thread_id == "large"
    assert 200_000 < int(size) < 250_000


async def test_ids_of_threads_do_not_control_the_terminal(database_url):
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        await put(saver, "t\x1b[2J", 1, ["hi"])
    done = run_headrace("db", "storage", database_url=database_url)
    assert done.returncode == 0, done.stderr
    assert "[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_command_says_what_it_could_not_measure(database_url):
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
        done = run_headrace("db", "storage", "--timeout-seconds", "0.3", database_url=database_url)
    assert done.returncode == 1
    assert "--timeout-seconds" in done.stderr
    assert done.stdout == ""


def test_the_command_refuses_with_a_sentence_what_postgres_refuses(empty_database_url):
    done = run_headrace("db", "storage", database_url=empty_database_url)
    assert done.returncode == 1
    assert "HR302" in done.stderr
    assert 'relation "checkpoint_blobs" does not exist' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["inf", "1e9"])
def test_the_command_refuses_times_that_postgres_does_not_take(database_url, seconds):
    done = run_headrace("db", "storage", "--timeout-seconds", seconds, database_url=database_url)
    assert done.returncode == 2
    assert "--timeout-seconds" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["0.001", "0.9"])
def test_a_pod_that_would_measure_all_the_time_is_refused(seconds, database_url):
    changes = {"HEADRACE_METRICS__TABLE_SECONDS": seconds}
    done = run_headrace("serve", "--port", "0", database_url=database_url, **changes)
    assert done.returncode == 1
    assert "HR001 HEADRACE_METRICS__TABLE_SECONDS: tables are measured once a second" in done.stderr
