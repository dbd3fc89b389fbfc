"""Fixtures of the whole suite, loaded by name.

One Postgres per test process, a migrated template in it, a database of its own for each test.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import structlog

from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.settings import DATABASE_URL_VARIABLES, MIGRATION_URL_VARIABLES
from tests.support.database import GuardedPostgres, PrivatePostgres, database_settings
from tests.support.doors import open_doors
from tests.support.live import FORMS, LiveServer, live_server
from tests.support.processes import free_port
from tests.support.roles import let_server_in
from tests.support.trust import trust_one_authority

#: Of the developer's shell, these would change what is tested.
_STRIPPED_PREFIXES = ("HEADRACE_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
_KEPT = ("HEADRACE_REQUIRE_TOOLS", "HEADRACE_TEST_OFFICIAL")
_STRIPPED = {*DATABASE_URL_VARIABLES, *MIGRATION_URL_VARIABLES, "PROMETHEUS_MULTIPROC_DIR"}


#: Copying a database takes a tenth of the time in memory. A container may have little of it.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 3 * 1024**3

#: What the test server logs when it or one of its sessions ended in a way that no test asked for.
_CRASHES = re.compile(r"terminated by signal|PANIC|out of memory|No space left|could not fork")
_crashes = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    for name in list(os.environ):
        if name not in _KEPT and (name in _STRIPPED or name.startswith(_STRIPPED_PREFIXES)):
            del os.environ[name]
    config.stash[_crashes] = []
    # structlog's default, but for the tracebacks: with the locals of every frame they block the
    # event loop for seconds.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    trust_one_authority(config)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["crashes"] = session.config.stash[_crashes]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_crashes] += getattr(node, "workeroutput", {}).get("crashes", [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if crashes := config.stash[_crashes]:
        terminalreporter.section("the test Postgres crashed")
        for line in crashes:
            terminalreporter.write_line(line)


@contextmanager
def data_directory() -> Iterator[Path]:
    """Where a server that gives up root can still read it; pytest's own folders are private."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES
    with tempfile.TemporaryDirectory(
        prefix="headrace-test-", dir=_MEMORY if roomy else None, ignore_cleanup_errors=True
    ) as name:
        Path(name).chmod(0o755)
        yield Path(name) / "pg"


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """The Postgres of this test process; not durable."""
    options = {"max_connections": "200", "max_wal_size": "128MB"}
    with data_directory() as data:
        with EmbeddedPostgres(data, durable=False, options=options) as server:
            yield server
        log = server.log_file.read_text(errors="replace").splitlines()
        pytestconfig.stash[_crashes] += [line for line in log if _CRASHES.search(line)]


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the schema and nothing in it."""
    name = "headrace_template"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    upgrade(database_settings(postgres.dsn(name)))
    let_server_in(postgres.dsn(name))
    return name


#: How long the sessions of a database may take to end before they are ended.
_LEAVING_SECONDS = 0.08


@contextmanager
def new_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        # In memory a copy of the files takes half as long as one through the log.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield postgres.dsn(name)
        _let_sessions_end(connection, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _let_sessions_end(connection: psycopg.Connection[Any], database: str) -> None:
    """Wait for the sessions that are just ending: a DROP that meets one waits 0.1 s for it."""
    asked = "SELECT FROM pg_stat_activity WHERE datname = %s LIMIT 1"
    deadline = monotonic() + _LEAVING_SECONDS
    while connection.execute(asked, [database]).rowcount and monotonic() < deadline:
        sleep(0.002)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with new_database(postgres, template) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to it, to look and to change what no code of headrace's would."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def second_database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Another one like ``database_url``."""
    with new_database(postgres, template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    with new_database(postgres, "template0") as url:
        yield url


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    """A migrated server of the test's own, to be stopped and started at one address."""
    port = free_port()
    # What it has acknowledged outlives a crash of the server, though not one of the machine.
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "synchronous_commit": "on",
    }
    with data_directory() as data:
        server = PrivatePostgres(EmbeddedPostgres(data, durable=False, options=options), port)
        server.start()
        try:
            upgrade(database_settings(server.url))
            let_server_in(server.url)
            yield server
        finally:
            server.stop()


@pytest.fixture
def guarded_postgres() -> Iterator[GuardedPostgres]:
    """A migrated server of the test's own that asks its role ``app`` for a password."""
    port = free_port()
    with data_directory() as data:
        rules = data.with_name("pg_hba.conf")
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        options = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(rules)}
        with EmbeddedPostgres(data, durable=False, options=options) as postgres:
            upgrade(database_settings(postgres.dsn()))
            let_server_in(postgres.dsn(), GuardedPostgres.role)
            yield GuardedPostgres(postgres.dsn(), port)


@pytest.fixture(scope="module")
def module_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A migrated database of the module's own."""
    with new_database(postgres, template) as url:
        yield url


@pytest.fixture(scope="module")
def module_server(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server with two processes on the module's database."""
    with live_server(tmp_path_factory.mktemp("live"), module_database) as server:
        yield server


@pytest.fixture(scope="session")
def forms_server(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One server for all tests that share it; each makes what it needs under names of its own."""
    with (
        new_database(postgres, template) as url,
        live_server(tmp_path_factory.mktemp("forms"), url, config=FORMS) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def doors_server(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One server with all doors open, for all tests of the doors."""
    with (
        new_database(postgres, template) as url,
        open_doors(tmp_path_factory.mktemp("doors"), url) as server,
    ):
        yield server
