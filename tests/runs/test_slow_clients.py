"""Clients of large streams over real sockets: who takes something keeps its stream."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live import GRAPHS, LiveServer, live_server
from tests.support.slow_clients import StreamClient
from tests.support.waiting import wait_until

MODES = ["values", "updates", "debug", "tasks"]
MB = 1_000_000
STALL_SECONDS = 3


class Server(LiveServer):
    """One process: all clients of a run are in it."""

    def wait_ready(self, processes: int = 1) -> None:
        wait_until(lambda: self.serving(), seconds=90)
        super().wait_ready(1)

    def cut(self) -> list[str]:
        """Why clients were cut."""
        lines = [one for one in self.log().splitlines() if '"slow_client_cut"' in one]
        return [line.split('"reason":"')[1].split('"')[0] for line in lines]

    def stream(self, size: int, *, steps: int = 5, **options: Any) -> StreamClient:
        thread_id = httpx.post(f"{self.url}/threads", json={}).json()["thread_id"]
        body = {
            "assistant_id": "large",
            "stream_mode": MODES,
            "durability": "exit",
            "input": {"bytes": size, "steps": steps},
        }
        client = StreamClient(self.url, f"/threads/{thread_id}/runs/stream", body, **options)
        client.path = f"/threads/{thread_id}/runs"
        client.start()
        return client

    def join(self, run: StreamClient, **options: Any) -> StreamClient:
        client = StreamClient(self.url, f"{run.path}/{run.run_id}/stream", **options)
        client.start()
        return client


@contextmanager
def serving(folder: Path, url: str, **environment: str) -> Iterator[Server]:
    config = GRAPHS.with_name("large.json")
    with live_server(folder, url, config=config, kind=Server, processes=1, **environment) as server:
        assert isinstance(server, Server)
        yield server


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("slow"),
        module_database,
        HEADRACE_EVENTS__STALL_SECONDS=str(STALL_SECONDS),
        HEADRACE_EVENTS__BUFFER_BYTES="1048576",
        HEADRACE_EVENTS__BUFFER_TOTAL_BYTES=str(40 * MB),
    ) as server:
        yield server


def test_one_that_reads_at_once_gets_all_of_a_run_with_large_states(server):
    before = server.cut()
    client = server.stream(4 * MB)
    client.join(60)
    assert client.whole
    assert client.events[-1] == "end"
    assert client.events.count("values") == 6
    assert client.events.count("updates") == 5
    assert client.received > 100 * MB
    assert server.cut() == before


def test_one_that_moves_is_not_cut_though_it_takes_longer_than_a_stall(server):
    before = server.cut()
    client = server.stream(3 * MB // 2, steps=2, rate=3 * MB)
    client.join(60)
    assert client.seconds > STALL_SECONDS
    assert client.whole
    assert client.events[-1] == "end"
    assert server.cut() == before


def test_stalled_ones_are_cut_in_time_and_cost_the_others_nothing(server):
    before = len(server.cut())
    began_at = time.monotonic()
    client = server.stream(4 * MB)
    stalled = [server.join(client, rate=0) for _ in range(4)]
    client.join(60)
    assert client.whole
    assert client.events[-1] == "end"
    assert client.seconds < STALL_SECONDS + 15
    wait_until(lambda: len(server.cut()) >= before + 4, seconds=STALL_SECONDS + 5)
    assert time.monotonic() - began_at > STALL_SECONDS / 2
    metrics = server.get("/metrics").text
    wait_until(lambda: "headrace_events_waiting_bytes 0.0" in server.get("/metrics").text)
    assert "headrace_slow_clients_cut_total{" in metrics
    for one in stalled:
        one.stop()
    wait_until(lambda: server.log().count('"cut":"slow_client"') >= 4, seconds=STALL_SECONDS + 5)
    wait_until(
        lambda: 'headrace_streams_cut_total{reason="slow_client"}' in server.get("/metrics").text
    )
