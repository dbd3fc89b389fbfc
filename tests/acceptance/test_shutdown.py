"""The whole server told to stop with twenty streams of runs open: rows, events, exit code."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headrace.lifecycle import Tasks
from tests.support.live import GRAPHS, LiveServer, live_server
from tests.support.processes import Prober
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

STREAMS = 20
#: Without another process, runs have half of it.
GRACE_SECONDS = 8.0
#: Steps of the graph ``slow``; three of them fit that half, or none does.
SHORT, LONG = 0.5, 60.0
QUICK = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}


@dataclass
class Stream:
    """What one client saw."""

    seconds: float
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return str(self.events[0][1]["run_id"])

    async def read(self, client: httpx.AsyncClient) -> None:
        body = {"assistant_id": "slow", "input": {"seconds": self.seconds}, "stream_mode": "custom"}
        thread = (await client.post("/threads", json={})).json()
        url = f"/threads/{thread['thread_id']}/runs/stream"
        name = ""
        try:
            async with client.stream("POST", url, json=body) as response:
                async for line in response.aiter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        self.events.append((name, json.loads(line.removeprefix("data: "))))
                        self.opened.set()
        finally:
            self.opened.set()


async def signalled(
    server: LiveServer,
    number: signal.Signals,
    *,
    pid: int | None = None,
    seconds: Sequence[float] = (SHORT, LONG) * (STREAMS // 2),
) -> tuple[list[Stream], Prober, float]:
    """Open the streams; send the signal; read all to their end. Also when it was sent."""
    streams = [Stream(one) for one in seconds]
    prober, tasks = Prober(server.url), Tasks()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        reading = [tasks.start(stream.read(client), name="stream") for stream in streams]
        await asyncio.gather(*(stream.opened.wait() for stream in streams))
        tasks.start(prober.probe_for_ever(), name="prober")
        told_at = time.monotonic()
        server.signal(number, pid)
        await asyncio.gather(*reading)
        await tasks.stop()
    return streams, prober, told_at


def rows(server: LiveServer, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.database_url) as connection:
        return connection.execute(statement).fetchall()


def check_ends(server: LiveServer, streams: list[Stream], cut: set[str]) -> None:
    """Each stream ended as its row says; ``cut`` had no time left, and are anybody's to go on."""
    found = rows(server, "SELECT run_id::text, status, error->>'error', failures FROM runs")
    by_id = {run_id: row for run_id, *row in found}
    for stream in streams:
        name, data = stream.events[-1]
        status, error, failures = by_id[stream.run_id]
        assert (error, failures) == (None, 0)
        if stream.run_id in cut:
            # Either would tell the client that the run is over.
            assert name not in ("end", "error")
            assert status in ("pending", "running")
        else:
            assert (name, data["status"]) == ("end", "success")
            assert status == "success"
    busy = rows(server, "SELECT count(*) FROM threads WHERE status = 'busy'")
    assert busy == [(len(cut),)]


async def refused_chat(server: LiveServer) -> httpx.Response:
    """The first answer that is no reply, once the server is told to stop."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=20, limits=limits) as client:
        while (await client.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.02)
        while (answer := await client.post("/chat", json={"message": "hi"})).status_code == 200:
            pass
        return answer


def lines_of_cuts(server: LiveServer) -> list[dict[str, Any]]:
    """The access lines of streams that ended without their proper end."""
    lines = [line for line in server.log().splitlines() if '"cut":' in line]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_to_the_master(tmp_path, database_url, number):
    environment: dict[str, Any] = {"HEADRACE_SERVER__GRACE_SECONDS": str(GRACE_SECONDS)}
    with live_server(tmp_path, database_url, **environment) as server:
        refused = Tasks().start(refused_chat(server), name="chat")
        streams, prober, told_at = await signalled(server, number)
        assert server.wait_exit(15) == 0
        answer = await refused
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert int(answer.headers["retry-after"]) >= 1
        seconds = time.monotonic() - told_at
        print(f"{number.name}: exit 0 after {seconds:.1f} s, grace {GRACE_SECONDS:.0f} s")
        assert seconds < GRACE_SECONDS + 3
        cut = {one.run_id for one in streams if one.seconds == LONG}
        check_ends(server, streams, cut)
        assert {line["run_id"] for line in lines_of_cuts(server)} == cut
        assert {line["cut"] for line in lines_of_cuts(server)} == {"drain"}
        assert 503 in prober.statuses
        assert set(prober.statuses[5:]) == {503}
        assert prober.refused_before_the_end == 0
        assert "was sent SIG" not in server.log()
        assert not list((server.runtime_dir / "slots").glob("*.json"))
        # The lifespan was shut down: the leases are given back, not left to expire.
        assert rows(server, "SELECT count(*) FROM processes") == [(0,)]


async def test_one_process_is_told_and_its_timeout_is_shorter_than_the_grace(
    tmp_path, database_url
):
    environment: dict[str, Any] = {
        "HEADRACE_SERVER__GRACE_SECONDS": "12",
        "HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS": "5",
        "HEADRACE_SERVER__DRAIN_DELAY_SECONDS": "0.5",
    }
    with live_server(tmp_path, database_url, **environment) as server:
        before = set(server.serving())
        told = min(before)
        streams, prober, _ = await signalled(
            server, signal.SIGTERM, pid=told, seconds=[2.5] * STREAMS
        )
        check_ends(server, streams, cut=set())
        wait_until(lambda: len(set(server.serving()) - {told}) == 2)
        # New connections go to the process with fewer of them, so perhaps no probe met this one.
        assert set(prober.reasons) <= {f"process {told} is draining"}
        assert '"event":"stop_requested"' in server.log()
        assert prober.refused == 0
        assert prober.statuses[-10:] == [200] * 10
        assert "WORKER TIMEOUT" not in server.log()
        assert "exited with code" not in server.log()
        assert "was sent SIG" not in server.log()


async def test_hup_puts_new_processes_in_place(tmp_path, database_url):
    environment: dict[str, Any] = {"HEADRACE_SERVER__GRACE_SECONDS": "6"}
    with live_server(tmp_path, database_url, **environment) as server:
        before = set(server.serving())
        streams, prober, _ = await signalled(server, signal.SIGHUP)
        check_ends(server, streams, {one.run_id for one in streams if one.seconds == LONG})
        wait_until(lambda: len(set(server.serving()) - before) == 2)
        wait_until(lambda: not before & set(server.serving()))
        assert prober.refused == 0
        assert prober.statuses[-10:] == [200] * 10
        assert httpx.post(f"{server.url}/runs/wait", json=QUICK).status_code == 200
        assert "exited with code" not in server.log()


async def test_hup_refuses_nothing_on_open_connections(tmp_path, database_url):
    """Also not starts that reach a process which drains: the others execute them."""
    environment: dict[str, Any] = {"HEADRACE_SERVER__GRACE_SECONDS": "20"}
    body = {"assistant_id": "slow", "input": {"seconds": 0.2}}
    answers: list[httpx.Response] = []
    with live_server(tmp_path, database_url, **environment) as server:
        before = set(server.serving())
        stopping = asyncio.Event()

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                while not stopping.is_set():
                    answers.append(await client.post("/runs/wait", json=body))

        asking = [asyncio.ensure_future(ask()) for _ in range(6)]
        await asyncio.sleep(1)
        server.signal(signal.SIGHUP)
        await asyncio.to_thread(
            wait_until, lambda: not before & set(server.serving()) and server.serving(), seconds=60
        )
        await asyncio.sleep(2)
        stopping.set()
        # A connection that was closed under a request would raise here.
        await asyncio.gather(*asking)
        assert [answer.text for answer in answers if answer.status_code != 200] == []
        assert all(answer.json()["done"] == [0, 1, 2] for answer in answers)
        assert any(answer.headers.get("connection") == "close" for answer in answers)
        assert '"reason":"draining"' in server.log()
        assert '"drain_cut_steps"' not in server.log()


def test_a_stopped_process_is_named_by_readiness(tmp_path, database_url):
    environment: dict[str, Any] = {"HEADRACE_SERVER__SLOT_STALE_SECONDS": "1"}
    with live_server(tmp_path, database_url, **environment) as server:
        stopped = server.serving()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            started = time.monotonic()
            wait_until(lambda: names(server, stopped))
            print(f"named after {time.monotonic() - started:.1f} s")
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: server.status("/readyz") == 200)


def names(server: LiveServer, pid: int) -> bool:
    """Whether /readyz is 503 and names the process; the stopped one may have got the request."""
    try:
        response = httpx.get(f"{server.url}/readyz", timeout=0.5)
    except httpx.TimeoutException:
        return False
    reasons = response.json().get("reasons", [])
    return response.status_code == 503 and any(f"process {pid} " in one for one in reasons)


class Uvicorn(LiveServer):
    """The same application under uvicorn alone, which knows of no drain."""

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--factory", "headrace.server.app:create_app"]
        with self.log_file.open("wb") as log:
            self.master = subprocess.Popen(
                [*command, f"--port={self.port}"], env=self._environment, stdout=log, stderr=log
            )


async def test_under_uvicorn_alone_a_run_that_nobody_follows_still_finishes(
    tmp_path: Path, database_url: str
) -> None:
    server = Uvicorn(tmp_path, database_url, HEADRACE_CONFIG=str(GRAPHS))
    server.start()
    try:
        wait_until(lambda: server.status("/ok") == 200, seconds=30)
        body = {"assistant_id": "slow", "input": {"seconds": 0.5}, "on_disconnect": "continue"}
        body |= {"on_completion": "keep"}
        async with (
            httpx.AsyncClient(base_url=server.url) as client,
            client.stream("POST", "/runs/stream", json=body) as response,
        ):
            await anext(response.aiter_lines())
        server.signal(signal.SIGTERM)
        server.wait_exit(15)
    finally:
        server.close()
    assert rows(server, "SELECT status FROM runs") == [("success",)]
    assert rows(server, "SELECT count(*) FROM processes") == [(0,)]
