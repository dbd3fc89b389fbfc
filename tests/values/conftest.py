"""One server of two processes for all tests of values; each makes threads of its own."""

from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest

from headrace.embedded.launcher import EmbeddedPostgres
from tests.support.live import GRAPHS, LiveServer, live_server
from tests.support.plugin import new_database


@pytest.fixture(scope="package")
def values_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Its sessions say times as in Nepal."""
    with new_database(postgres, template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
        yield url


@pytest.fixture(scope="package")
def values_server(
    values_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("values")
    with live_server(folder, values_database, config=GRAPHS.parent / "odd.json") as server:
        yield server


@pytest.fixture
async def client(values_server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=values_server.url, timeout=60) as opened:
        yield opened
