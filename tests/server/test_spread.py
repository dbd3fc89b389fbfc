"""Connections are spread over the processes of a pod, however they come."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import monotonic

import httpx
import pytest

from headrace.server.spread import Spread
from tests.support.pace import within
from tests.support.processes import ServerUnderTest, server
from tests.support.waiting import wait_until

PROCESSES = 3


def test_a_process_is_ahead_of_one_with_fewer_connections() -> None:
    spread = Spread()
    first, second = spread.free_place([]), spread.free_place([0])
    assert first is not None
    assert second is not None
    assert second.index == 1
    first.join()
    first.publish(5)
    assert not first.is_ahead()
    second.join()
    assert first.is_ahead()
    assert not second.is_ahead()
    second.count_one()
    second.publish(5)
    assert not first.is_ahead()


def test_nobody_waits_for_a_process_that_has_left() -> None:
    spread = Spread()
    first, second = spread.free_place([]), spread.free_place([0])
    assert first is not None
    assert second is not None
    first.join()
    second.join()
    first.publish(5)
    second.leave()
    # It still has connections, and reports them.
    second.publish(1)
    second.count_one()
    assert not first.is_ahead()


def test_a_place_is_free_once_and_there_is_an_end() -> None:
    spread = Spread()
    taken = list(range(100))
    assert spread.free_place(taken) is None
    assert spread.free_place([0, 1, 3]).index == 2  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def pod(
    tmp_path_factory: pytest.TempPathFactory, module_database: str
) -> Iterator[ServerUnderTest]:
    with server(
        tmp_path_factory.mktemp("spread"),
        DATABASE_URL=module_database,
        HEADRACE_PROCESSES=str(PROCESSES),
    ) as running:
        running.wait_ready(PROCESSES)
        # A process that has not begun to serve takes no connections yet.
        wait_until(lambda: _states(running) == ["serving"] * PROCESSES)
        yield running


def _states(running: ServerUnderTest) -> list[str]:
    return [one["state"] for one in running.get("/health").json()["processes"]]


# Beside other tests a process may get no processor for longer than its head start.
@pytest.mark.alone
@pytest.mark.acceptance
@pytest.mark.parametrize("count", [12, 150])
def test_a_burst_is_spread_evenly(pod: ServerUnderTest, count: int) -> None:
    with ExitStack() as stack:
        found = _by_process([stack.enter_context(_started(pod.port)) for _ in range(count)])
    assert len(found) == PROCESSES
    assert max(found.values()) - min(found.values()) <= 2 + count // 25


@pytest.mark.acceptance
def test_connections_one_after_another_are_spread_evenly(pod: ServerUnderTest) -> None:
    with ExitStack() as stack:
        found: Counter[int] = Counter()
        for _ in range(30):
            found += _by_process([stack.enter_context(_started(pod.port))])
    assert len(found) == PROCESSES
    assert max(found.values()) - min(found.values()) <= 3


@pytest.mark.acceptance
def test_nobody_waits_long_for_a_stopped_process(pod: ServerUnderTest) -> None:
    """It has the fewest connections, and cannot take any."""
    stopped = pod.pids()[1]
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(("127.0.0.1", pod.port)))
        os.kill(stopped, signal.SIGSTOP)
        try:
            started = monotonic()
            for _ in range(20):
                assert httpx.get(f"{pod.url}/livez", timeout=5).status_code == 200
            assert monotonic() - started < within(5)
        finally:
            os.kill(stopped, signal.SIGCONT)


def _started(port: int) -> socket.socket:
    """A connection that is under way: the client has not waited for it."""
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", port))
    return one


def _by_process(opened: Sequence[socket.socket]) -> Counter[int]:
    """How many of these connections each process holds, as each process tells."""
    pids: Counter[int] = Counter()
    for one in opened:
        one.settimeout(10)
        one.sendall(b"GET /pid HTTP/1.1\r\nhost: localhost\r\n\r\n")
        pids[int(one.recv(4096).rpartition(b"\r\n")[2])] += 1
    return pids
