"""For the tests of an app on headrace: a migrated Postgres, a database for each test, a client.

In the ``conftest.py`` at the top of your tests::

    pytest_plugins = ["headrace.testing"]

A test that takes ``headrace_database`` has a database of its own; the app finds it when it starts.
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

#: Room for the pools of several apps at once.
_MAX_CONNECTIONS = "200"


@dataclass(frozen=True, slots=True)
class Server:
    """A Postgres whose role may create databases."""

    url: str

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        scheme, _, rest = self.url.partition("://")
        authority = re.split("[/?]", rest, maxsplit=1)[0]
        _, mark, query = rest.partition("?")
        return f"{scheme}://{authority}/{database}{mark}{query}"

    @contextmanager
    def new_database(self, template: str) -> Iterator[str]:
        """Its name; it is gone afterwards, and whoever is still connected to it is thrown out."""
        name = f"headrace_{uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            try:
                yield name
            finally:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def freeze(self, database: str) -> None:
        """Nobody is connected to it any more, or will be: it can be copied at any time.

        An engine that laid tables may keep a connection in its pool.
        """
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                (database,),
            )


@pytest.fixture(scope="session")
def headrace_postgres() -> Iterator[Server]:
    """A Postgres for the whole session.

    The one of ``HEADRACE_TEST_DATABASE_URL``, like ``postgresql://user:password@host/postgres``;
    else one of its own, which needs ``headrace[embedded]`` and keeps nothing.
    """
    if given := database_url_for_tests():
        yield Server(given)
        return
    # A server that gives up root must be able to read it; pytest's own folders are private.
    with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        options = {"max_connections": _MAX_CONNECTIONS}
        with EmbeddedPostgres(Path(folder) / "pg", durable=False, options=options) as server:
            yield Server(server.dsn())


@pytest.fixture(scope="session")
def headrace_prepare() -> Callable[[str], None]:
    """Lays tables of your own in the template, before headrace's: override it to have some.

    It returns a function that is called once, with the URL of the template.
    """
    return lambda url: None


@pytest.fixture(scope="session")
def headrace_template(
    headrace_postgres: Server, headrace_prepare: Callable[[str], None]
) -> Iterator[str]:
    """The name of a database with your tables and headrace's, and no rows."""
    with headrace_postgres.new_database("template0") as name:
        url = headrace_postgres.url_of(name)
        headrace_prepare(url)
        # All else, the schema for one, as the environment says; never its databases.
        here = {"url": SecretStr(url), "migration_url": None}
        upgrade(Settings().database.model_copy(update=here))
        headrace_postgres.freeze(name)
        yield name


@pytest.fixture
def headrace_database(
    headrace_postgres: Server, headrace_template: str, monkeypatch: pytest.MonkeyPatch
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
    """An ``httpx.AsyncClient`` of an app whose lifespan runs, in the test's own event loop.

    ``httpx.ASGITransport`` alone runs no lifespan. An answer is there once it is complete, a stream
    too. What the app's start raises comes out here.
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
    """In a task of its own: fixtures may be set up and torn down in different ones."""
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
