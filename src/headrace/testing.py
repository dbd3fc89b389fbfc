"""pytest fixtures for an app on headrace: a migrated Postgres, a database per test, a client.

In the ``conftest.py`` at the top of your tests::

    pytest_plugins = ["headrace.testing"]

A test with ``headrace_database`` has a database of its own. The app finds it when it starts.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.lifecycle import Tasks
from headrace.settings import (
    DATABASE_URL_VARIABLES,
    MIGRATION_URL_VARIABLES,
    Settings,
    database_url_for_tests,
)

#: Enough for the pools of several apps.
_MAX_CONNECTIONS = "200"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A Postgres server whose role may create databases."""

    url: str

    def url_of(self, database: str) -> str:
        """The URL of one database of the server."""
        scheme, _, rest = self.url.partition("://")
        authority = re.split("[/?]", rest, maxsplit=1)[0]
        _, mark, query = rest.partition("?")
        return f"{scheme}://{authority}/{database}{mark}{query}"

    @contextmanager
    def new_database(self, template: str) -> Iterator[str]:
        """The name of a new database. It is dropped afterwards, also with clients connected."""
        name = f"headrace_{uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            try:
                yield name
            finally:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def freeze(self, database: str) -> None:
        """End all connections to a database and allow no new ones, so that it can be copied.

        The engine that has created tables may still have a connection in its pool.
        """
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                (database,),
            )


@pytest.fixture(scope="session")
def headrace_postgres() -> Iterator[PostgresServer]:
    """A Postgres server for the whole session.

    ``HEADRACE_TEST_DATABASE_URL`` names it, like ``postgresql://user:password@host/postgres``.
    Without that, the fixture starts a temporary server, which needs ``headrace[embedded]``.
    """
    if given := database_url_for_tests():
        yield PostgresServer(given)
        return
    # Not one of pytest's folders, which are private: root's Postgres runs as nobody and must enter.
    with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        options = {"max_connections": _MAX_CONNECTIONS}
        with EmbeddedPostgres(Path(folder) / "pg", durable=False, options=options) as server:
            yield PostgresServer(server.dsn())


@pytest.fixture(scope="session")
def headrace_prepare() -> Callable[[str], None]:
    """Creates your own tables in the template, before headrace's. Override this fixture to use it.

    It returns a function that is called once, with the URL of the template.
    """
    return lambda url: None


@pytest.fixture(scope="session")
def headrace_template(
    headrace_postgres: PostgresServer, headrace_prepare: Callable[[str], None]
) -> Iterator[str]:
    """The name of a database with your tables and headrace's, and no rows."""
    with headrace_postgres.new_database("template0") as name:
        url = headrace_postgres.url_of(name)
        headrace_prepare(url)
        # Other settings, such as the schema, come from the environment; its databases are not used.
        here = {"url": SecretStr(url), "migration_url": None}
        upgrade(Settings().database.model_copy(update=here))
        headrace_postgres.freeze(name)
        yield name


@pytest.fixture
def headrace_database(
    headrace_postgres: PostgresServer, headrace_template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a migrated database of the test's own, also set as ``DATABASE_URL``."""
    with headrace_postgres.new_database(headrace_template) as name:
        url = headrace_postgres.url_of(name)
        for variable in (*DATABASE_URL_VARIABLES, *MIGRATION_URL_VARIABLES):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HEADRACE_DATABASE__URL", url)
        monkeypatch.setenv("DATABASE_URL", url)
        yield url


@asynccontextmanager
async def client(
    app: ASGIApp, *, base_url: str = "http://testserver"
) -> AsyncIterator[httpx.AsyncClient]:
    """An ``httpx.AsyncClient`` for an app whose lifespan runs, in the event loop of the test.

    ``httpx.ASGITransport`` alone runs no lifespan. Each answer is complete when it arrives, also a
    stream.

    :raises RuntimeError: the app does not start. An error that it raises itself is raised here.
    """
    state: dict[str, Any] = {}

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    async with _started(app, state):
        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as asking:
            yield asking


@asynccontextmanager
async def _started(app: ASGIApp, state: dict[str, Any]) -> AsyncIterator[None]:
    """Run the lifespan in a task of its own: pytest may tear a fixture down in another task."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}

    async def run() -> None:
        await app(scope, to_app.get, from_app.put)

    tasks = Tasks()
    running = tasks.start(run(), name="lifespan")
    await to_app.put({"type": "lifespan.startup"})
    said = tasks.start(from_app.get(), name="lifespan-startup")
    await asyncio.wait({running, said}, return_when=asyncio.FIRST_COMPLETED)
    if not said.done() or said.result()["type"] != "lifespan.startup.complete":
        said.cancel()
        await running
        raise RuntimeError("the app does not start")
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await running
