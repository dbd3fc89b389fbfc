"""What strangers send that is no request, or more of one than there should be: refused in time.

Real sockets against a real process. Nothing here needs a key.
"""

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.endless import ENDLESS, HEAD
from tests.support.exposition import Exposition
from tests.support.processes import ServerUnderTest, server
from tests.support.smuggled import SMUGGLED, smuggled
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

_TIMEOUT = 1.0
#: Connections are looked at in between, on a machine that has other work.
_SLACK = 4.0
_OPEN_FILES = 160
#: Of these a third is left to pool and graphs.
_BOUND = _OPEN_FILES - _OPEN_FILES // 3


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory, module_database: str
) -> Iterator[ServerUnderTest]:
    """One process, few descriptors, short times."""
    with server(
        tmp_path_factory.mktemp("bounded"),
        with_health_port=True,
        open_files=_OPEN_FILES,
        DATABASE_URL=module_database,
        HEADRACE_PROCESSES="1",
        HEADRACE_SERVER__HEADER_TIMEOUT_SECONDS=str(_TIMEOUT),
        HEADRACE_SERVER__BODY_TIMEOUT_SECONDS=str(_TIMEOUT),
        HEADRACE_SERVER__UNREAD_TIMEOUT_SECONDS=str(_TIMEOUT),
        HEADRACE_METRICS__CACHE_SECONDS="0",
    ) as running:
        running.wait_ready(1)
        yield running


def connect(process: ServerUnderTest) -> socket.socket:
    return socket.create_connection(("127.0.0.1", process.port), timeout=10)


def answers(process: ServerUnderTest, parts: Iterable[bytes]) -> bytes:
    """All that comes back until the server closes the connection."""
    with connect(process) as client:
        return exchange(client, parts)


def exchange(client: socket.socket, parts: Iterable[bytes]) -> bytes:
    found = b""
    # A connection that is cut may end with a reset; what came before counts.
    with suppress(ConnectionError):
        for part in parts:
            client.sendall(part)
    with suppress(ConnectionError):
        while data := client.recv(65536):
            found += data
    return found


def told(answer: bytes) -> tuple[int, str]:
    """Status and code."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["code"]


def endless(begin: bytes, part: bytes, megabytes: int = 16) -> Iterator[bytes]:
    yield begin
    block = part * (64 * 1024 // len(part))
    for _ in range(megabytes * 16):
        yield block


@pytest.mark.parametrize("case", ENDLESS)
def test_a_request_without_end_is_refused(process: ServerUnderTest, case: str) -> None:
    begin, part, status, code = ENDLESS[case]
    before, counted = _memory(process), _refused(process, str(status), code)
    with ExitStack() as stack:
        # One of them reads the answer, and the others never do.
        for _ in range(5):
            deaf = stack.enter_context(connect(process))
            with suppress(ConnectionError):
                for block in endless(begin, part, 4):
                    deaf.sendall(block)
        assert told(answers(process, endless(begin, part))) == (status, code)
    assert _refused(process, str(status), code) > counted
    assert _memory(process) - before < 64 * 1024 * 1024


COMPLETE = {
    "url": (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    "headers": (b"GET /pid HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
    "header bytes": (b"GET /pid HTTP/1.1\r\nhost: a\r\na: " + b"b" * 40_000 + b"\r\n\r\n", 431),
    "trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        431,
    ),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "no path": (b"CONNECT here:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two lengths": (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
    "bad chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
}


@pytest.mark.parametrize("case", COMPLETE)
def test_a_request_beyond_a_limit_is_refused(process: ServerUnderTest, case: str) -> None:
    request, status = COMPLETE[case]
    assert told(answers(process, [request]))[0] == status


def test_a_request_refused_with_its_first_bytes_counts_once(process: ServerUnderTest) -> None:
    """The app has its head, and has not begun it when the server refuses the body."""

    def counted(**labels: str) -> float:
        found = Exposition(process.health("/metrics").text)
        return found.count("headrace_http_requests_total", **labels)

    before, refused = counted(), counted(status="400", code="bad_request")
    assert told(answers(process, [COMPLETE["bad chunk"][0]])) == (400, "bad_request")
    wait_until(lambda: counted(status="400", code="bad_request") > refused)
    assert counted() - before == 1
    assert counted(status="400", code="bad_request") - refused == 1


def test_the_health_port_names_the_refusal_of_a_method(process: ServerUnderTest) -> None:
    refused = httpx.post(process.health_url + "/livez")
    assert refused.status_code == 405
    assert refused.json()["code"] == "method_not_allowed"


def test_what_is_within_the_limits_is_answered(process: ServerUnderTest) -> None:
    request = b"GET /pid?" + b"a" * 15_000 + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
    request += b"a: bbb\r\n" * 97 + b"c: " + b"d" * 30_000 + b"\r\n\r\n"
    assert answers(process, [request]).startswith(b"HTTP/1.1 200")


def test_the_limits_hold_for_each_request_of_a_connection(process: ServerUnderTest) -> None:
    body = b"x" * 100_000
    request = HEAD + b"content-length: 100000\r\n" + b"a: b\r\n" * 80 + b"\r\n" + body
    last = request.replace(b"host: localhost", b"host: localhost\r\nconnection: close", 1)
    found = answers(process, [request, request, last])
    assert found.count(b'"bytes":100000') == 3
    found = answers(
        process,
        [
            b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\nGET /pid HTTP/1.1\r\nhost: a\r\n"
            + b"a: b\r\n" * 101
        ],
    )
    assert found.startswith(b"HTTP/1.1 200")


def test_trailers_do_not_become_headers(process: ServerUnderTest) -> None:
    request = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    found = answers(process, [request + b"1\r\nx\r\n0\r\nx-forged: yes\r\n\r\n"])
    assert b'"bytes":1' in found
    assert b"x-forged" not in found


@pytest.mark.parametrize("case", SMUGGLED)
def test_no_request_hides_in_the_body_of_another(process: ServerUnderTest, case: str) -> None:
    """What does not say clearly where it ends is refused, and nothing behind it is answered."""
    found = answers(process, [smuggled(case, "/body")])
    assert found.count(b"HTTP/1.1 ") == 1, found
    assert int(found.split()[1]) in (400, 413)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /pid HTTP/1.1\r\nhost: a\r\n", 200),
        (b"GET /pid HTTP/1.1\r\nHost: a\r\n", 200),
        (b"GET /pid HTTP/1.0\r\n", 200),
        (b"GET /pid HTTP/1.0\r\nhost: a\r\n", 200),
        (b"GET /pid HTTP/1.1\r\n", 400),
        (b"GET /pid HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        (b"GET /pid HTTP/1.1\r\nhost: a\r\nHost: a\r\n", 400),
        (b"GET /pid HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
        (b"GET /pid\r\n", 400),
        (b"GET /pid HTTP/2.0\r\nhost: a\r\n", 400),
        (b"GET /pid HTTP/0.9\r\nhost: a\r\n", 400),
    ],
)
def test_a_request_names_its_host_once(process: ServerUnderTest, head: bytes, status: int) -> None:
    """RFC 9112, 3.2: two names may mean two servers to a proxy and to this one."""
    found = answers(process, [head + b"connection: close\r\n\r\n"])
    assert int(found.split()[1]) == status, found


def test_so_many_requests_may_be_sent_ahead(process: ServerUnderTest) -> None:
    assert (
        answers(process, [b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\n" * 5000]).count(b"HTTP/1.1 200")
        == 17
    )
    last = b"GET /pid HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    found = answers(process, [b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\n" * 15 + last])
    assert found.count(b"HTTP/1.1 200") == 16


def test_an_upgrade_that_nobody_speaks_ends_with_its_answer(process: ServerUnderTest) -> None:
    """Its bytes are not HTTP/1.1 any more, so nothing on that connection would be answered."""
    request = b"GET /pid HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    found = answers(process, [request + b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\n"])
    assert found.count(b"HTTP/1.1 200") == 1


def test_a_refusal_does_not_enter_an_answer_under_way(process: ServerUnderTest) -> None:
    found = answers(
        process, [b"GET /ticks?seconds=1 HTTP/1.1\r\nhost: a\r\n\r\n", b"no request\r\n\r\n"]
    )
    assert found.count(b"HTTP/1.1") == 1
    assert b"event: end" in found


SLOW = {
    "nothing": (b"", 0),
    "half a line": (b"GET /pid", 408),
    "half a head": (b"GET /pid HTTP/1.1\r\nhost: localhost\r\n", 408),
    "no body": (HEAD + b"content-length: 10\r\n\r\n", 408),
    "half a body": (HEAD + b"content-length: 10\r\n\r\nabc", 408),
    "half a chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab", 408),
    "no last chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", 408),
    "a body after 100": (HEAD + b"expect: 100-continue\r\ncontent-length: 10\r\n\r\n", 408),
    "a body that is not wanted": (
        b"POST /pid HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc",
        405,
    ),
    "nothing after an answer": (b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\nGET /pid", 200),
}


@pytest.mark.parametrize("case", SLOW)
def test_half_a_request_is_not_waited_for(process: ServerUnderTest, case: str) -> None:
    data, status = SLOW[case]
    began = time.monotonic()
    found = answers(process, [data]).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert time.monotonic() - began < _TIMEOUT + _SLACK
    assert (int(found.split()[1]) if found else 0) == status


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"GET /pid HTTP/1.1\r\nhost: a\r\n", b"a: b\r\n"),
        (b"", b"\r\n"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"a"),
        (HEAD + b"content-length: 1000\r\n\r\n", b"a"),
        (b"POST /pid HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n", b"a"),
    ],
    ids=["headers", "lines", "extension", "body", "unwanted body"],
)
def test_a_drop_now_and_then_is_no_progress(
    process: ServerUnderTest, begin: bytes, drop: bytes
) -> None:
    began = time.monotonic()
    with connect(process) as client, suppress(ConnectionError):
        client.sendall(begin)
        client.settimeout(0.1)
        while True:
            client.sendall(drop)
            # An answer is no end; what is closed raises with the next drop, or reads as empty.
            with suppress(TimeoutError):
                if not client.recv(65536):
                    break
            assert time.monotonic() - began < _TIMEOUT + _SLACK


def test_an_answer_that_nobody_reads_is_dropped(process: ServerUnderTest) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(connect(process))
            client.sendall(b"GET /large?megabytes=16 HTTP/1.1\r\nhost: a\r\n\r\n")
        wait_until(lambda: _cut(process, "unread") >= 10, seconds=_TIMEOUT + _SLACK)


def test_streams_and_slow_answers_are_not_idle(process: ServerUnderTest) -> None:
    """Longer than all timeouts, while others press for their places."""
    with connect(process) as streaming, ExitStack() as stack:
        streaming.sendall(b"GET /ticks?seconds=4 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert streaming.recv(10).startswith(b"HTTP/1.1")
        for _ in range(2 * _BOUND):
            stack.enter_context(connect(process))
        assert b"event: end" in exchange(streaming, [])


@pytest.mark.parametrize(
    "request_",
    [b"HEAD /livez HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"],
)
def test_an_answer_is_sent_when_it_is_made(process: ServerUnderTest, request_: bytes) -> None:
    times = []
    with connect(process) as client:
        for _ in range(10):
            began = time.monotonic()
            client.sendall(request_)
            # HEAD has no route there; its answer has no body.
            assert client.recv(4096).startswith((b"HTTP/1.1 200", b"HTTP/1.1 405"))
            times.append(time.monotonic() - began)
    assert min(times) < 0.05


def test_a_client_that_asks_before_it_sends_its_body_need_not_wait(
    process: ServerUnderTest,
) -> None:
    times = []
    for _ in range(5):
        with connect(process) as client:
            began = time.monotonic()
            client.sendall(
                b"POST /threads HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                b"content-type: application/json\r\ncontent-length: 2\r\n\r\n"
            )
            found = client.recv(4096)
            times.append(time.monotonic() - began)
            # Refused without its body, or asked to send it.
            assert found.startswith((b"HTTP/1.1 100", b"HTTP/1.1 4"))
    assert min(times) < 0.05


@pytest.mark.parametrize(
    "sent", [b"", b"GET /pid HTTP/1.1\r\nhost: a\r\na: b"], ids=["silent", "half-sent"]
)
def test_connections_without_a_request_make_room(process: ServerUnderTest, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(3 * _OPEN_FILES):
            client = stack.enter_context(connect(process))
            with suppress(ConnectionError):
                client.sendall(sent)
        for _ in range(10):
            assert process.get("/pid").status_code == 200
            assert process.health("/livez").status_code == 200
    assert _cut(process, "made_room") > 0
    assert "Too many open files" not in process.log()


def test_a_process_whose_connections_all_work_refuses_others(process: ServerUnderTest) -> None:
    stream = b"GET /ticks?seconds=20 HTTP/1.1\r\nhost: a\r\n\r\n"
    with ExitStack() as stack:
        held = [stack.enter_context(connect(process)) for _ in range(_BOUND)]
        for client in held:
            client.sendall(stream)
        assert all(client.recv(10).startswith(b"HTTP/1.1 2") for client in held)
        assert told(answers(process, [b"GET /pid HTTP/1.1\r\nhost: a\r\n\r\n"])) == (
            503,
            "too_many_connections",
        )
        refused = _cut(process, "refused")
        for _ in range(_OPEN_FILES):
            stack.enter_context(connect(process))
        wait_until(lambda: _cut(process, "refused") >= refused + _OPEN_FILES)
        assert process.health("/readyz").status_code == 200
        assert process.health("/livez").json()["status"] == "alive"
    wait_until(lambda: _is_answered(process))
    assert _refused(process, "503", "too_many_connections") > _OPEN_FILES
    assert '"event":"connections_bounded"' in process.log()
    lines = process.log().count('"event":"connections_cut"')
    assert lines < 20


def test_health_is_answered_while_the_loop_is_blocked(process: ServerUnderTest) -> None:
    """And tells the truth about it: that nobody serves."""
    blocking = threading.Thread(target=process.get_slowly, args=("/block?seconds=7",))
    blocking.start()
    try:
        for path in ("/livez", "/readyz", "/startupz", "/health", "/metrics"):
            assert process.health(path).status_code == 200
        wait_until(lambda: process.health("/livez").status_code == 503)
        told = process.health("/readyz")
        assert told.status_code == 503
        assert [re.sub(r"\d+\.?\d*", "N", reason) for reason in told.json()["reasons"]] == [
            "process N has been silent for N s"
        ]
        assert process.health("/metrics").status_code == 200
    finally:
        blocking.join()
    wait_until(lambda: process.health("/livez").status_code == 200)
    wait_until(lambda: process.health("/readyz").status_code == 200)


def test_the_health_port_is_bounded_too(process: ServerUnderTest) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", process.health_port), timeout=10)
            )
            with suppress(ConnectionError):
                client.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\na: ")
        assert process.health("/livez").status_code == 200
        head = httpx.head(process.health_url + "/readyz")
        assert (head.status_code, head.content) == (200, b"")
        assert httpx.post(process.health_url + "/livez").status_code == 405
        assert process.health("/pid").status_code == 404
        assert process.health("/metrics?format=json").json()["queue"]["n_running"] == 0


def test_metrics_leave_the_port_that_everybody_asks(process: ServerUnderTest) -> None:
    refused = process.get("/metrics")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    for path in ("/livez", "/readyz", "/startupz", "/health"):
        assert process.get(path).status_code == 200


def test_any_process_answers_for_the_pod(tmp_path: Path, database_url: str) -> None:
    """The master gives all of them one socket; one that is replaced is not missed."""
    with server(tmp_path, with_health_port=True, DATABASE_URL=database_url) as running:
        running.wait_ready()
        assert running.health("/readyz").status_code == 200
        assert 'headrace_processes{state="serving"} 2.0' in running.health("/metrics").text
        killed = running.pids()[0]
        running.signal(signal.SIGKILL, killed)
        wait_until(lambda: len(running.pids()) == 3)
        wait_until(lambda: running.health("/readyz").status_code == 200)
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0


def _memory(process: ServerUnderTest) -> int:
    status = Path(f"/proc/{process.pids()[-1]}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _cut(process: ServerUnderTest, reason: str) -> int:
    line = rf'^headrace_connections_cut_total\{{reason="{reason}"\}} (\d+)'
    found = re.search(line, process.health("/metrics").text, re.M)
    return int(found[1]) if found is not None else 0


def _refused(process: ServerUnderTest, status: str, code: str) -> float:
    found = Exposition(process.health("/metrics").text)
    labels = {"route": "__unmatched__", "status": status, "code": code}
    return found.count("headrace_http_requests_total", **labels)


def _is_answered(process: ServerUnderTest) -> bool:
    return process.get("/pid").status_code == 200
