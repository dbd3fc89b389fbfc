"""Large bodies against a real process: what it holds of them, and who is answered meanwhile."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

MB = 1024 * 1024
KEYS = ("key-of-the-first-caller", "key-of-the-second-caller")
BUDGET = 16 * MB


class OneProcess(LiveServer):
    def wait_ready(self, processes: int = 1) -> None:
        super().wait_ready(processes)


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(
        tmp_path_factory.mktemp("bodies"),
        module_database,
        kind=OneProcess,
        HEADRACE_PROCESSES="1",
        HEADRACE_API_KEYS=",".join(KEYS),
        HEADRACE_EDGE__METRICS="on",
        HEADRACE_METRICS__CACHE_SECONDS="0",
        HEADRACE_REQUESTS__BODIES_BYTES=str(BUDGET),
        HEADRACE_REQUESTS__BODIES_WAIT_SECONDS="1.5",
    ) as running:
        yield running


def resident(server: LiveServer) -> int:
    [pid] = server.serving()
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no memory")


def figure(server: LiveServer, name: str) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(f"headrace_{name} "):
            return float(line.split()[1])
    return 0.0


def half_sent(stack: ExitStack, server: LiveServer) -> socket.socket:
    """A request of 8 MB whose last bytes never come; what the server does not read stays here."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    client.sendall(
        b"POST /threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"x-api-key: %b\r\ncontent-length: %d\r\n\r\n" % (KEYS[0].encode(), 8 * MB)
    )
    client.setblocking(False)
    return client


def push(clients: list[socket.socket], left: dict[socket.socket, int]) -> None:
    """As much as goes, of all of them."""
    part = b" " * (256 * 1024)
    for client in clients:
        with suppress(BlockingIOError, ConnectionError):
            while left[client] > 0:
                left[client] -= client.send(part[: left[client]])


def answer_of(client: socket.socket) -> bytes:
    client.settimeout(0.2)
    with suppress(ConnectionError, TimeoutError):
        return client.recv(4096)
    return b""


def test_bodies_that_do_not_end_hold_little_and_stop_nobody(server: LiveServer) -> None:
    image = {"metadata": {}, "ignored": "x" * (4 * MB)}
    with ExitStack() as stack, httpx.Client(base_url=server.url, timeout=20) as http:
        http.headers["x-api-key"] = KEYS[1]
        assert http.post("/threads", json=image).status_code == 200
        before = resident(server)
        clients = [half_sent(stack, server) for _ in range(40)]
        left = dict.fromkeys(clients, 8 * MB - 1000)
        ends, longest, largest = time.monotonic() + 1.0, 0.0, 0
        while time.monotonic() < ends:
            push(clients, left)
            asked = time.monotonic()
            assert http.post("/threads", json={}).status_code == 200
            longest = max(longest, time.monotonic() - asked)
            largest = max(largest, resident(server))
        assert figure(server, "bodies_bytes") <= BUDGET + 8 * MB
        # Another caller's large body finds its share.
        assert http.post("/threads", json=image).status_code == 200
        time.sleep(2)
        told = [answer_of(client) for client in clients]
        assert largest - before < BUDGET + 8 * MB + 32 * MB
        assert longest < 1.0
    # Those that are left hold what nobody waits for; the body timeout ends them.
    refused = [answer for answer in told if answer]
    assert len(refused) > 30
    assert all(b" 503 " in one and b"retry-after: 2" in one.lower() for one in refused)
    assert all(
        json.loads(one.partition(b"\r\n\r\n")[2])["code"] == "bodies_full" for one in refused
    )
    assert '"event":"body_refused"' in server.log()
    wait_until(lambda: figure(server, "bodies_bytes") == 0)


def test_large_bodies_take_turns_and_all_are_answered(server: LiveServer) -> None:
    body = json.dumps({"ignored": "x" * (5 * MB)}).encode()
    headers = {"x-api-key": KEYS[0], "content-type": "application/json"}

    def send(_: int) -> int:
        for _ in range(20):
            answer = httpx.post(f"{server.url}/threads", content=body, headers=headers, timeout=20)
            if answer.status_code != 503:
                return answer.status_code
            time.sleep(float(answer.headers["retry-after"]) / 4)
        return 503

    before = resident(server)
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(send, range(12))) == {200}
    assert resident(server) - before < 4 * BUDGET
    wait_until(lambda: figure(server, "bodies_bytes") == 0)


def test_endless_chunked_bodies_leave_memory_as_it_was(server: LiveServer) -> None:
    """Five at once: each is refused at the bound, and the rest of it is thrown away."""
    before = resident(server)

    def send(_: int) -> tuple[int, int]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(
                b"POST /threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"x-api-key: %b\r\ntransfer-encoding: chunked\r\n\r\n" % KEYS[0].encode()
            )
            answer = b""
            part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            with suppress(ConnectionError):
                for _ in range(30 * 16):
                    client.sendall(part)
                client.sendall(b"0\r\n\r\n")
            client.settimeout(10)
            with suppress(ConnectionError):
                answer = client.recv(4096)
            return int(answer.split()[1]) if answer else 0, resident(server)

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(send, range(5)))
    assert {status for status, _ in found} <= {413, 503}
    assert 413 in {status for status, _ in found}
    assert max(memory for _, memory in found) - before < 5 * 8 * MB + 32 * MB
    # A figure is as old as the last pulse, and a client may be answered before its body is let go.
    wait_until(lambda: figure(server, "bodies_bytes") == 0)


def test_a_compressed_body_is_not_unpacked(server: LiveServer) -> None:
    """Kilobytes that stand for many megabytes: they are no JSON, and nobody looks inside."""
    bomb = gzip.compress(b'{"metadata": {}}' + b" " * (64 * MB), compresslevel=1)
    before = resident(server)
    headers = {
        "x-api-key": KEYS[0],
        "content-type": "application/json",
        "content-encoding": "gzip",
    }
    answer = httpx.post(f"{server.url}/threads", content=bomb, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_json")
    assert resident(server) - before < 32 * MB
