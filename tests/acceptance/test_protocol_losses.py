"""Clients of the streaming protocol go on with ``since`` when a process dies or drains."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.support.live import FORMS, LiveServer, live_server

pytestmark = pytest.mark.acceptance

_CHANNELS = ["lifecycle", "values", "updates", "custom", "checkpoints"]
_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("losses")
    with live_server(
        folder, module_database, config=FORMS, HEADRACE_SERVER__GRACE_SECONDS="0.5"
    ) as server:
        yield server


def owner(database: psycopg.Connection, thread_id: str) -> int | None:
    """The process that executes the run of the thread."""
    row = database.execute(
        "SELECT pid FROM processes JOIN runs USING (process_id)"
        " WHERE thread_id = %s AND status = 'running' AND NOT lost",
        (thread_id,),
    ).fetchone()
    return int(row[0]) if row else None


def events(client: httpx.Client, thread_id: str, since: int) -> Any:
    """The events of one connection, one by one, until it ends or breaks."""
    body = {"channels": _CHANNELS, "since": since}
    path = f"/threads/{thread_id}/stream/events"
    with client.stream("POST", path, json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def is_end(event: Any) -> bool:
    data = event["params"]["data"]
    return event["method"] == "lifecycle" and data["event"] in ("completed", "failed")


def to_the_end(client: httpx.Client, thread_id: str, seen: list[Any]) -> None:
    """Read on, over as many connections as it takes, as clients of the protocol do."""
    deadline = time.monotonic() + _SECONDS
    while not (seen and is_end(seen[-1])):
        assert time.monotonic() < deadline, seen
        try:
            for event in events(client, thread_id, seen[-1]["seq"] if seen else 0):
                seen.append(event)
                if is_end(event):
                    return
        except httpx.HTTPError:
            time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_no_event_is_lost_or_told_twice(server, module_database, number):
    # Another one has taken the place of a process that an earlier test has ended.
    server.wait_ready()
    with (
        httpx.Client(base_url=server.url, timeout=20) as client,
        psycopg.connect(module_database, autocommit=True) as database,
    ):
        thread_id = str(uuid4())
        params = {"assistant_id": "slow", "input": {"seconds": 1.5}}
        command = {"id": 1, "method": "run.start", "params": params}
        started = client.post(f"/threads/{thread_id}/commands", json=command).json()
        assert started["type"] == "success"
        seen: list[Any] = []
        for event in events(client, thread_id, 0):
            seen.append(event)
            if len(seen) == 4:
                break
        pid = owner(database, thread_id)
        assert pid is not None
        # In the middle of a connection, and not between two.
        running = events(client, thread_id, seen[-1]["seq"])
        seen.append(next(running))
        os.kill(pid, number)
        with suppress(httpx.HTTPError):
            # What came before it broke off counts. Another process may carry it: then it goes on.
            for event in running:
                seen.append(event)
                if is_end(event):
                    break
        to_the_end(client, thread_id, seen)
        whole: list[Any] = []
        to_the_end(client, thread_id, whole)
    numbers = [event["seq"] for event in seen]
    assert numbers == sorted(set(numbers))
    assert [event["event_id"] for event in seen] == [event["event_id"] for event in whole]
    assert numbers == [event["seq"] for event in whole]
    assert seen[-1]["params"]["data"]["event"] == "completed"
    values = [event["params"]["data"] for event in seen if event["method"] == "values"]
    assert values[-1]["done"] == [0, 1, 2]
