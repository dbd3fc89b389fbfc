"""Every way a pod or a process is told to stop, with twenty streams open and a prober asking."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from headrace.lifecycle import Tasks
from tests.support.processes import Prober, ServerUnderTest, read_stream, server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

_STREAMS = 20


async def _signalled_while_streaming(
    running: ServerUnderTest,
    number: signal.Signals,
    *,
    seconds: list[float],
    pid: int | None = None,
) -> tuple[list[str], Prober]:
    """Open the streams, send the signal, read all to the end."""
    prober = Prober(running.url)
    tasks = Tasks()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=running.url, timeout=30, limits=limits) as client:
        opened = [asyncio.Event() for _ in seconds]
        streams = [
            tasks.start(read_stream(client, duration, event), name="stream")
            for duration, event in zip(seconds, opened, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in opened))
        tasks.start(prober.probe_for_ever(), name="prober")
        running.signal(number, pid)
        endings = await asyncio.gather(*streams)
        await tasks.stop()
    return endings, prober


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_to_the_master_drains_the_whole_pod(
    tmp_path: Path, number: signal.Signals
) -> None:
    with server(tmp_path, HEADRACE_SERVER__GRACE_SECONDS="2") as running:
        running.wait_ready()
        started = time.monotonic()
        durations = [1.0, 60.0] * (_STREAMS // 2)
        endings, prober = await _signalled_while_streaming(running, number, seconds=durations)

        assert running.wait_exit(5) == 0
        assert time.monotonic() - started < 5
        assert endings == ["end", "error"] * (_STREAMS // 2)
        assert 503 in prober.statuses
        assert set(prober.statuses[5:]) == {503}
        assert prober.refused_before_the_end == 0
        assert running.journal().count("down") == 2
        assert "was sent SIG" not in running.log()
        assert not list((running.runtime_dir / "slots").glob("*.json"))


async def test_a_process_told_to_stop_hands_over_and_outlives_the_timeout(tmp_path: Path) -> None:
    with server(
        tmp_path,
        HEADRACE_SERVER__DRAIN_DELAY_SECONDS="1",
        HEADRACE_SERVER__GRACE_SECONDS="6.5",
        HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS="5",
    ) as running:
        running.wait_ready()
        told = running.pids()[0]
        durations = [6.5] * _STREAMS
        endings, prober = await _signalled_while_streaming(
            running, signal.SIGTERM, seconds=durations, pid=told
        )
        wait_until(lambda: told in running.pids("down"))

        assert endings == ["end"] * _STREAMS
        assert 200 in prober.statuses
        assert f"process {told} is draining" in prober.reasons
        assert prober.statuses[-20:] == [200] * 20
        assert prober.refused == 0
        assert "WORKER TIMEOUT" not in running.log()
        wait_until(lambda: len(running.pids()) == 3)
        assert "exited with code" not in running.log()
        assert "was sent SIG" not in running.log()


async def test_hup_puts_new_processes_in_place_and_loses_no_request(tmp_path: Path) -> None:
    with server(tmp_path, HEADRACE_SERVER__GRACE_SECONDS="6") as running:
        running.wait_ready()
        old = set(running.pids())
        endings, prober = await _signalled_while_streaming(
            running, signal.SIGHUP, seconds=[4.0] * (_STREAMS - 1) + [60.0]
        )
        wait_until(lambda: set(running.pids("down")) == old)

        assert endings == ["end"] * (_STREAMS - 1) + ["error"]
        assert 503 in prober.statuses
        assert prober.statuses[-20:] == [200] * 20
        assert prober.refused == 0
        assert running.get("/pid").json() in set(running.pids()) - old
        assert "exited with code" not in running.log()


async def test_asking_twice_cuts_the_grace(tmp_path: Path) -> None:
    with server(tmp_path, HEADRACE_SERVER__GRACE_SECONDS="30") as running:
        running.wait_ready()
        tasks = Tasks()
        opened = asyncio.Event()
        async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
            stream = tasks.start(read_stream(client, 60.0, opened), name="stream")
            await opened.wait()
            running.signal(signal.SIGINT)
            wait_until(lambda: running.log().count("drain_began") == 2)
            first = time.monotonic()
            wait_until(lambda: time.monotonic() > first + 1.1)
            for pid in running.pids():
                try:
                    os.kill(pid, signal.SIGINT)
                except ProcessLookupError:
                    continue  # the one without a stream had nothing to wait for
            assert await stream == "error"
        assert running.wait_exit(4) == 0
        assert running.journal().count("down") == 2


def test_a_thread_of_user_code_does_not_hold_the_process(tmp_path: Path) -> None:
    with server(tmp_path, HEADRACE_PROCESSES="1") as running:
        running.wait_ready(1)
        running.get("/thread?seconds=60")
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0
        assert running.journal().count("down") == 1


def test_a_shutdown_that_hangs_ends_before_it_is_killed(tmp_path: Path) -> None:
    with server(
        tmp_path,
        HEADRACE_PROCESSES="1",
        HEADRACE_SERVER__GRACE_SECONDS="0",
        APP_SLOW_SHUTDOWN="60",
    ) as running:
        running.wait_ready(1)
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0
        assert "shutdown_cut" in running.log()
        assert "SIGKILL" not in running.log()


def test_no_process_outlives_a_killed_master(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        running.wait_ready()
        running.signal(signal.SIGKILL)
        running.wait_exit(5)
        wait_until(lambda: running.journal().count("down") == 2)
