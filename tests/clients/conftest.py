"""One server, two processes, for all tests that leave no trace others could see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.embedded.launcher import EmbeddedPostgres
from tests.support.live import LiveServer, live_server
from tests.support.plugin import new_database

CONFIG = Path(__file__).with_name("langgraph.json")


@pytest.fixture(scope="session")
def clients_server(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Serves the graphs of the recording."""
    with (
        new_database(postgres, template) as url,
        live_server(tmp_path_factory.mktemp("clients"), url, config=CONFIG) as server,
    ):
        yield server
