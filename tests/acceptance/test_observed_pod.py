"""What a real pod tells about itself: by Prometheus' conventions, bounded, right after losses."""

import json
import random
import signal
import socket
import string
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.db.schema import known_revisions
from tests.support.exposition import Exposition
from tests.support.live import LiveServer, live_server
from tests.support.pace import within
from tests.support.tools import require_tool
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

_SEED = 17
_STRANGE = 2_000
#: Sent ahead of their answers on one connection.
_AHEAD = 16
_KILLED = 4
_MOST_SCRAPE_SECONDS = 0.2
_MB = 1024 * 1024


@pytest.fixture(scope="module")
def pod(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(
        tmp_path_factory.mktemp("observed"),
        module_database,
        HEADRACE_METRICS__CACHE_SECONDS="0",
        HEADRACE_SERVER__BODY_TIMEOUT_SECONDS="1",
        HEADRACE_EDGE__TRUSTED_PROXIES="127.0.0.1",
    ) as server:
        yield server


def scraped(pod: LiveServer) -> Exposition:
    return Exposition(pod.get("/metrics").text)


def run_one_of_each(pod: LiveServer) -> None:
    """Runs of several graphs, a stream, and what is refused."""
    for graph in ("agent", "memo", "boom"):
        body: dict[str, Any] = {"assistant_id": graph, "input": {"topic": "x"}}
        if graph == "agent":
            body["input"] = {"messages": [{"role": "user", "content": "hi"}]}
        for path in ("/runs/wait", "/runs/stream"):
            httpx.post(pod.url + path, json=body, timeout=30)
    thread_id = httpx.post(pod.url + "/threads", json={}).json()["thread_id"]
    for path in (f"/threads/{thread_id}", "/threads/x", "/nowhere", "/health", "/info"):
        pod.get(path)


def test_promtool_finds_nothing_to_say(pod: LiveServer) -> None:
    promtool = require_tool("promtool", remedy="make ci-tools")
    run_one_of_each(pod)
    text = pod.get("/metrics").content
    said = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")
    found = Exposition(text.decode())
    described = {
        line.split(" ", 3)[2]: line.split(" ", 3)[3]
        for line in found.text.splitlines()
        if line.startswith("# HELP ")
    }
    assert set(described) == set(found.families)
    assert all(text.endswith(".") and len(text) > 10 for text in described.values())


def test_the_pod_tells_its_state_and_what_was_built(pod: LiveServer) -> None:
    report = pod.report()
    found = scraped(pod)
    for name in ("headrace_ready", "headrace_database_reachable", "headrace_schema_fit"):
        assert found.value(name) == 1
    (build,) = [labels for name, labels, _ in found.samples if name == "headrace_build_info"]
    assert build["version"] == report["version"]
    assert build["schema"] == known_revisions()[-1]
    assert set(build) == {"version", "python", "langgraph", "schema"}
    first = found.value("headrace_process_start_time_min_seconds")
    last = found.value("headrace_process_start_time_max_seconds")
    assert time.time() - 300 < first <= last < time.time()


def strange_request(chance: random.Random) -> bytes:
    def word(letters: str = string.ascii_letters + string.digits + "-_.~%20") -> str:
        return "".join(chance.choices(letters, k=chance.randint(1, 20)))

    known = ["threads", "runs", "assistants", "store", "chat", "docs/assets", word(), word()]
    path = "/".join([chance.choice(known), *(word() for _ in range(chance.randint(0, 4)))])
    method = chance.choice(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LOCK"])
    return (
        f"{method} /{path}?{word()}={word()} HTTP/1.1\r\nhost: {word(string.ascii_letters)}\r\n"
        f"x-request-id: {word()}\r\nx-api-key: {word()}\r\nidempotency-key: {word()}\r\n"
        f"content-type: {word()}\r\ncontent-length: 0\r\n"
    ).encode()


def send(pod: LiveServer, requests: list[bytes]) -> int:
    """Send them on one connection; returns how many were answered."""
    with socket.create_connection(("127.0.0.1", pod.port), timeout=30) as client:
        last = requests[-1] + b"connection: close\r\n\r\n"
        client.sendall(b"\r\n".join([*requests[:-1], last]))
        answers = b""
        while part := client.recv(65536):
            answers += part
    return answers.count(b"HTTP/1.1 ")


def series(found: Exposition) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(name, frozenset(labels.items())) for name, labels, _ in found.samples}


def test_random_requests_leave_the_number_of_series_unchanged(pod: LiveServer) -> None:
    chance = random.Random(_SEED)
    run_one_of_each(pod)

    def some(count: int) -> int:
        batches = [[strange_request(chance) for _ in range(_AHEAD)] for _ in range(count // _AHEAD)]
        with ThreadPoolExecutor(8) as clients:
            return sum(clients.map(lambda batch: send(pod, batch), batches))

    # Every route, method and code that strangers can reach.
    answered = some(_STRANGE)
    wait_until(lambda: scraped(pod).value("headrace_http_requests_total") >= answered)
    before = series(scraped(pod))
    answered = some(_STRANGE)
    assert answered == _STRANGE
    after = series(scraped(pod))
    print(f"{len(before)} series, {len(after)} after {_STRANGE} random requests")
    assert {name for name, _ in after - before} == set()


def test_a_body_that_does_not_come_is_counted_once_with_its_cause(pod: LiveServer) -> None:
    def late() -> float:
        return scraped(pod).count(
            "headrace_http_requests_total", status="408", code="request_timeout"
        )

    def lines() -> list[Any]:
        told = [json.loads(line) for line in pod.log().splitlines() if line.startswith("{")]
        return [
            line
            for line in told
            if line["event"] == "request_answered" and line["path"] == "/threads/search"
        ]

    before = late()
    with socket.create_connection(("127.0.0.1", pod.port), timeout=30) as client:
        client.sendall(
            b"POST /threads/search HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: late() == before + 1 and lines())
    (line,) = lines()
    assert (line["status"], line["code"]) == (408, "request_timeout")
    assert line["client"] == "127.0.0.1"


def test_a_trusted_proxy_tells_who_the_client_is(pod: LiveServer) -> None:
    marked = {"x-request-id": "behind-a-proxy", "x-forwarded-for": "203.0.113.9"}
    httpx.get(pod.url + "/threads/x", headers=marked)
    wait_until(lambda: '"request_id":"behind-a-proxy"' in pod.log())
    line = next(line for line in pod.log().splitlines() if '"behind-a-proxy"' in line)
    assert json.loads(line)["client"] == "203.0.113.9"


def test_killed_processes_leave_right_gauges_and_a_bounded_directory(
    database_url: str, tmp_path: Path
) -> None:
    with live_server(tmp_path, database_url, HEADRACE_METRICS__CACHE_SECONDS="0") as pod:
        run_one_of_each(pod)
        runs = scraped(pod).value("headrace_runs_total")
        for killed in range(_KILLED):
            run_one_of_each(pod)
            runs += 6
            wait_until(partial(are_counted, pod, runs), seconds=30)
            lose(pod, pod.serving()[killed % 2])
        wait_until(lambda: len(pod.serving()) == 2, seconds=30)
        wait_until(lambda: pod.status("/readyz") == 200, seconds=30)
        wait_until(lambda: len(files(pod)) <= 2 * 2 + 2, seconds=30)
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            found = scraped(pod)
            seconds.append(time.perf_counter() - began)
        size = sum(path.stat().st_size for path in files(pod))
        print(
            f"{_KILLED} killed: {len(files(pod))} files, {size / _MB:.1f} MiB, scrape median"
            f" {sorted(seconds)[10] * 1000:.0f} ms, longest {max(seconds) * 1000:.0f} ms,"
            f" {len(found.samples)} series"
        )
        assert found.value("headrace_processes") == 2
        assert found.value("headrace_processes", state="serving") == 2
        assert found.value("headrace_pool_max_size") == 2 * 10
        assert found.value("headrace_runs_running") == 0
        assert found.value("headrace_streams_open") == 0
        # The scrape itself.
        assert found.value("headrace_requests_in_flight_max") <= 1
        assert found.value("headrace_runs_total") == runs
        assert size < 16 * _MB
        # What else works on this machine only adds to the time.
        assert min(seconds) < within(_MOST_SCRAPE_SECONDS)


def are_counted(pod: LiveServer, runs: float) -> bool:
    return scraped(pod).value("headrace_runs_total") == runs


def lose(pod: LiveServer, victim: int) -> None:
    """Kill a process, and wait for the one in its place."""
    pod.signal(signal.SIGKILL, victim)
    wait_until(lambda: len(set(pod.serving()) - {victim}) == 2, seconds=60)


def files(pod: LiveServer) -> list[Path]:
    """The files of metrics."""
    return list((pod.runtime_dir / "metrics").glob("*.db"))
