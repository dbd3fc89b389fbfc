"""One server with handlers, for all tests of this folder, and a client for each user."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.support.live import GRAPHS, LiveServer, live_server
from tests.support.plugin import new_database

GUARDED = GRAPHS.with_name("guarded.json")


@pytest.fixture(scope="session")
def guarded(postgres, template, tmp_path_factory) -> Iterator[LiveServer]:
    with (
        new_database(postgres, template) as url,
        live_server(
            tmp_path_factory.mktemp("guarded"),
            url,
            config=GUARDED,
            processes=1,
            HEADRACE_EDGE__METRICS="on",
            HEADRACE_WEBHOOKS__REQUIRE_HTTPS="false",
            HEADRACE_WEBHOOKS__ALLOWED_NETWORKS="127.0.0.0/8",
        ) as server,
    ):
        yield server


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer tok-{name}"}


@pytest.fixture(scope="session")
def user(guarded) -> Iterator[Callable[[str], SyncLangGraphClient]]:
    """The SDK of a user."""
    clients: dict[str, SyncLangGraphClient] = {}

    def client(name: str) -> SyncLangGraphClient:
        if name not in clients:
            clients[name] = get_sync_client(url=guarded.url, headers=token(name))
        return clients[name]

    yield client
    for one in clients.values():
        one.http.client.close()


@pytest.fixture(scope="session")
def http(guarded) -> Iterator[Callable[[str], httpx.Client]]:
    """Plain HTTP of a user."""
    clients: dict[str, httpx.Client] = {}

    def client(name: str) -> httpx.Client:
        if name not in clients:
            headers = token(name) if name else {}
            clients[name] = httpx.Client(base_url=guarded.url, headers=headers, timeout=60)
        return clients[name]

    yield client
    for one in clients.values():
        one.close()


def told(answer: httpx.Response) -> dict[str, Any]:
    """What was asked, as the refusal tells it."""
    assert answer.status_code == 403, answer.text
    asked: dict[str, object] = json.loads(answer.json()["detail"])
    return asked
