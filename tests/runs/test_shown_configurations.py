"""A thread shows the configuration of its latest run, until that run is deleted in whatever way."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from headrace.ids import earliest_uuid7
from headrace.runs.retention import RunSweeper
from tests.support.database import open_pool
from tests.support.live import LiveServer
from tests.support.waiting import wait_until

SAID = {"input": {"messages": [{"role": "user", "content": "hi"}]}}
SECRET = {"openai_api_key": "sk-CANARY"}


@pytest.fixture
def client(module_server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=module_server.url, timeout=30) as client:
        yield client


@pytest.fixture
def thread(client: httpx.Client) -> str:
    return str(client.post("/threads", json={}).json()["thread_id"])


@pytest.fixture
def database(module_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


def run(client: httpx.Client, thread: str, configurable: dict[str, str]) -> str:
    """A run that has ended; returns its id."""
    body = {"assistant_id": "agent", **SAID, "config": {"configurable": configurable}}
    answer = client.post(f"/threads/{thread}/runs/wait", json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["content-location"].rsplit("/", 1)[-1]


def shown(client: httpx.Client, thread: str) -> Any:
    config = client.get(f"/threads/{thread}").json()["config"]
    (found,) = client.post("/threads/search", json={"ids": [thread]}).json()
    assert found["config"] == config
    return config


def test_a_deleted_run_takes_its_configuration_along(client: httpx.Client, thread: str) -> None:
    first, second = (run(client, thread, given) for given in ({"model": "a"}, SECRET))
    assert client.delete(f"/threads/{thread}/runs/{first}").status_code == 204
    assert shown(client, thread) == {"configurable": SECRET}
    assert client.delete(f"/threads/{thread}/runs/{second}").status_code == 204
    assert shown(client, thread) == {}
    run(client, thread, {"model": "b"})
    assert shown(client, thread) == {"configurable": {"model": "b"}}


def test_a_run_that_is_left_shows_what_it_has_in_common(client: httpx.Client, thread: str) -> None:
    _, second = (run(client, thread, {"model": "a"}) for _ in range(2))
    assert client.delete(f"/threads/{thread}/runs/{second}").status_code == 204
    assert shown(client, thread) == {"configurable": {"model": "a"}}


@pytest.mark.parametrize("waits", [False, True])
def test_a_run_that_is_rolled_back_takes_its_configuration_along(
    client: httpx.Client, thread: str, waits: bool
) -> None:
    body = {"assistant_id": "slow", "input": {"seconds": 20}, "multitask_strategy": "enqueue"}
    if waits:
        client.post(f"/threads/{thread}/runs", json=body)
    made = client.post(
        f"/threads/{thread}/runs", json={**body, "config": {"configurable": SECRET}}
    ).json()
    assert shown(client, thread) == {"configurable": SECRET}
    path = f"/threads/{thread}/runs/{made['run_id']}"
    client.post(f"{path}/cancel", params={"action": "rollback", "wait": "true"})
    wait_until(lambda: client.get(path).status_code == 404)
    assert shown(client, thread) == {}


async def test_a_run_whose_time_is_over_takes_its_configuration_along(
    client: httpx.Client, thread: str, module_database: str
) -> None:
    run(client, thread, SECRET)
    async with open_pool(module_database) as pool:
        sweeper = RunSweeper(
            pool, keep_seconds=0, interval_seconds=1, limit=1000, count=lambda _: None
        )
        assert await sweeper.sweep()
    assert shown(client, thread) == {}


def test_a_thread_that_keeps_another_run_forgets_the_configuration(
    client: httpx.Client, thread: str, database: psycopg.Connection[Any]
) -> None:
    """The clock of the process that has made the run before went ahead."""
    made = run(client, thread, SECRET)
    database.execute(
        "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, ended_at)"
        " VALUES (%s, %s, %s, 'agent', 'success', now())",
        (earliest_uuid7(time.time() + 60), thread, UUID(int=1)),
    )
    pruned = {"thread_ids": [thread], "strategy": "keep_latest"}
    assert client.post("/threads/prune", json=pruned).status_code == 200
    assert client.get(f"/threads/{thread}/runs/{made}").status_code == 404
    assert shown(client, thread) == {}
