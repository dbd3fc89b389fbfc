"""Behind a real PgBouncer in transaction mode, where no session is one's own."""

import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, MessagesState, StateGraph
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.checkpoints.run_saver import RunSaver
from headrace.db.credentials import Credentials
from headrace.db.engine import Sessions, build_engine
from headrace.db.logins import Login
from headrace.db.measurer import DatabaseMeasurer
from headrace.db.migrate import adopt, drift, upgrade
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.db.schema import ensure_compatible, known_revisions, state
from headrace.db.tables import ThreadRow
from headrace.embedded.account import Account
from headrace.errors import StartupRefusal
from headrace.graphs.sources import sources_from_objects
from headrace.observability.slots import StatusBoard
from headrace.server.database import refused_start
from headrace.server.lifespan import serving
from headrace.setting_groups import WorkerSettings
from headrace.settings import Settings
from headrace.worker.heartbeat import Heartbeat
from tests.db.conditions import until_at_rest
from tests.support.database import database_settings, open_pool
from tests.support.engine import ENGINES, open_saver
from tests.support.processes import free_port
from tests.support.tools import require_tool
from tests.support.waiting import wait_until

HEAD = known_revisions()[-1]

_CONFIG = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


def answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False


@pytest.fixture
def through_pgbouncer(empty_database_url) -> Iterator[str]:
    """The URL of the empty database through PgBouncer, which leads to every other one too."""
    program = require_tool("pgbouncer")
    server = conninfo_to_dict(empty_database_url)
    port = free_port()
    account = Account.choose()  # PgBouncer refuses to run as root, as Postgres does
    with tempfile.TemporaryDirectory(prefix="headrace-test-") as name:
        Path(name).chmod(0o755)
        config = Path(name, "pgbouncer.ini")
        config.write_text(
            _CONFIG.format(host=server["host"], port=server["port"], listen_port=port)
        )
        process = account.popen([program, config], subprocess.DEVNULL)
        url = f"postgresql://postgres@127.0.0.1:{port}/{server['dbname']}"
        try:
            wait_until(lambda: answers(url))
            yield url
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def migrated_through_pgbouncer(through_pgbouncer: str, empty_database_url: str) -> str:
    upgrade(database_settings(empty_database_url))
    return through_pgbouncer


async def test_the_probe_sees_the_pooler(through_pgbouncer, empty_database_url):
    assert (await probe(Login(through_pgbouncer))).behind_pooler
    assert not (await probe(Login(empty_database_url))).behind_pooler


async def test_the_pool_prepares_nothing_behind_a_pooler(migrated_through_pgbouncer):
    async with open_pool(migrated_through_pgbouncer) as pool:
        assert (await ensure_compatible(pool)).current == HEAD
        async with pool.connection() as connection:
            assert connection.prepare_threshold is None
            for _ in range(10):
                await connection.execute("SELECT %s::int", (1,))
            cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
            assert await cursor.fetchone() == (0,)


async def converse(saver: RunSaver, thread_id: str) -> int:
    """Twelve turns, each read back; more than it takes to have a statement prepared."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    for _ in range(12):
        checkpoint = empty_checkpoint()
        stored = await saver.aput(config, checkpoint, {"step": 1}, {})
        await saver.aput_writes(stored, [("channel", thread_id)], "task")
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["id"] == checkpoint["id"]
        assert found.pending_writes == [("task", "channel", thread_id)]
    return len([item async for item in saver.alist(config)])


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_saver_works_behind_a_pooler(migrated_through_pgbouncer, engine):
    async with (
        open_pool(migrated_through_pgbouncer, pool_min=8, pool_max=8) as pool,
        open_saver(pool, engine=engine) as saver,
    ):
        counts = await asyncio.gather(*[converse(saver, f"{number}") for number in range(8)])
        assert counts == [12] * 8
        await until_at_rest(pool, 8)


async def test_sessions_work_behind_a_pooler(migrated_through_pgbouncer):
    async def count(sessions: Sessions) -> None:
        for _ in range(10):
            async with sessions.begin() as session:
                assert await session.scalar(text("SELECT count(*) FROM threads")) == 0

    async with open_pool(migrated_through_pgbouncer, pool_min=8, pool_max=8) as pool:
        sessions = Sessions(build_engine(pool), timeout_seconds=10)
        await asyncio.gather(*[count(sessions) for _ in range(8)])
        await until_at_rest(pool, 8)


async def test_the_database_is_measured_behind_a_pooler(migrated_through_pgbouncer):
    """The limits of its statements reach no other session."""
    url = migrated_through_pgbouncer
    async with open_pool(url, pool_min=4, pool_max=4) as pool:
        board = StatusBoard(None, stale_seconds=5.0)
        measurer = DatabaseMeasurer(pool, board, Credentials(url), seconds=30.0)
        await measurer.measure()
        assert measurer.figures is not None
        assert "checkpoints" in {table.name for table in measurer.figures.tables}
        for _ in range(4):
            async with pool.connection() as connection:
                cursor = await connection.execute("SHOW statement_timeout")
                assert await cursor.fetchone() == ("0",)


def test_migrations_are_refused_behind_a_pooler(through_pgbouncer):
    settings = database_settings(through_pgbouncer)
    for migrate in (upgrade, drift):
        with pytest.raises(StartupRefusal, match=r"HR313 .*MIGRATION_DATABASE_URL"):
            migrate(settings)
    assert state(settings).current is None


def test_migrations_go_around_the_pooler_by_their_own_url(through_pgbouncer, empty_database_url):
    settings = database_settings(through_pgbouncer, migration_url=SecretStr(empty_database_url))
    assert upgrade(settings) == HEAD
    assert state(database_settings(through_pgbouncer)).current == HEAD


async def test_a_schema_of_its_own_works_behind_a_pooler(through_pgbouncer, empty_database_url):
    """No session carries it: each is somebody else's a moment later."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for name in ("threads", "checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            connection.execute(f"CREATE TABLE {name} (theirs text)".encode())
    settings = database_settings(empty_database_url, schema="agents")
    await asyncio.to_thread(upgrade, settings)
    async with open_pool(through_pgbouncer, schema="agents", pool_min=4, pool_max=4) as pool:
        assert (await ensure_compatible(pool)).current == HEAD
        sessions = Sessions(build_engine(pool, pool.schema), timeout_seconds=10)
        async with open_saver(pool) as saver:
            counts = await asyncio.gather(*[converse(saver, f"{number}") for number in range(4)])
        assert counts == [12] * 4
        async with sessions.begin() as session:
            assert (await session.scalars(select(ThreadRow))).all() == []
        async with AsyncSession(build_engine(pool)) as session:
            assert await session.scalar(text("SELECT count(theirs) FROM threads")) == 0
            assert await session.scalar(text("SHOW search_path")) == '"$user", public'


@pytest.fixture
def full_pgbouncer(migrated_through_pgbouncer: str) -> Iterator[str]:
    """PgBouncer, all of whose connections to the server are in a transaction of somebody's."""
    with ExitStack() as stack:
        for _ in range(3):
            holder = stack.enter_context(psycopg.connect(migrated_through_pgbouncer))
            holder.execute("SELECT 1")
        yield migrated_through_pgbouncer


BOUND = {"open_timeout_seconds": 1.0}
#: PgBouncer lets a client wait for two minutes.
LONG_BEFORE_SECONDS = 30
SILENT = r"HR301 database .* it did not answer within 1 s\. .*a pooler"


def test_commands_do_not_wait_for_a_pooler_without_a_free_connection(full_pgbouncer):
    settings = database_settings(full_pgbouncer, **BOUND)
    for command in (state, upgrade, drift, adopt):
        began = time.monotonic()
        with pytest.raises(StartupRefusal, match=SILENT):
            command(settings)
        assert time.monotonic() - began < LONG_BEFORE_SECONDS


async def test_nor_does_a_start(full_pgbouncer, tmp_path):
    with pytest.raises(StartupRefusal, match=SILENT):
        await probe(Login(full_pgbouncer), timeout_seconds=1.0)
    settings = Settings(
        database=database_settings(full_pgbouncer, acquire_timeout_seconds=1.0, **BOUND)
    )
    graph = StateGraph(MessagesState).add_node("a", lambda state: {}).add_edge(START, "a")
    began = time.monotonic()
    with pytest.raises(StartupRefusal, match=r"HR301 .*did not answer"):
        async with serving(settings, sources_from_objects({"agent": graph})):
            pass
    assert time.monotonic() - began < LONG_BEFORE_SECONDS


async def test_nor_does_the_lease_of_a_process(full_pgbouncer):
    """All before it went well: the last free connection is taken in this moment."""
    heartbeat = Heartbeat(Login(full_pgbouncer), WorkerSettings(), open_timeout_seconds=1.0)
    began = time.monotonic()
    with pytest.raises(StartupRefusal, match=SILENT):
        await heartbeat.start()
    assert time.monotonic() - began < LONG_BEFORE_SECONDS


async def test_nor_does_the_schema_check_on_the_pool(migrated_through_pgbouncer):
    settings = database_settings(
        migrated_through_pgbouncer, acquire_timeout_seconds=1.0, pool_min=1, **BOUND
    )
    facts = await probe(Login(migrated_through_pgbouncer))
    pool = build_pool(settings, behind_pooler=facts.behind_pooler)
    try:
        with ExitStack() as stack:
            for _ in range(3):
                holder = stack.enter_context(psycopg.connect(migrated_through_pgbouncer))
                holder.execute("SELECT 1")
            await pool.open(wait=True, timeout=1.0)
            with pytest.raises(StartupRefusal, match="HR301"), refused_start(settings, pool):
                await ensure_compatible(pool)
    finally:
        await pool.close()


async def test_a_resolver_or_a_peer_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"postgresql://postgres@127.0.0.1:{port}/app?connect_timeout=60"
        with pytest.raises(StartupRefusal, match=r"HR301 .*did not answer within 1 s"):
            await probe(Login(url), timeout_seconds=1.0)
