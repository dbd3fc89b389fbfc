"""What may hold up the end of a process: a long grace, user code, a hanging shutdown, its master.

How runs and probes fare meanwhile: tests/acceptance/test_shutdown.py.
"""

import os
import signal
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support.processes import server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

RUN = {"assistant_id": "slow", "input": {"seconds": 60}}


def test_asking_twice_cuts_the_grace(tmp_path: Path, database_url: str) -> None:
    with server(
        tmp_path, DATABASE_URL=database_url, HEADRACE_SERVER__GRACE_SECONDS="30"
    ) as running:
        running.wait_ready()
        with httpx.stream("POST", f"{running.url}/runs/stream", json=RUN, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            running.signal(signal.SIGINT)
            wait_until(lambda: running.log().count("drain_began") == 2)
            # A moment later gunicorn would have repeated the first one itself.
            time.sleep(1.1)
            for pid in running.pids():
                try:
                    os.kill(pid, signal.SIGINT)
                except ProcessLookupError:
                    continue  # the one without a run had nothing to wait for
            # The run goes on elsewhere: neither its end nor an error is told.
            assert [line for line in lines if line in ("event: end", "event: error")] == []
        assert running.wait_exit(4) == 0
        assert running.journal().count("down") == 2
    with psycopg.connect(database_url) as database:
        assert database.execute("SELECT status, failures FROM runs").fetchall() == [("pending", 0)]


def test_a_thread_of_user_code_does_not_hold_the_process(tmp_path: Path, database_url: str) -> None:
    with server(tmp_path, DATABASE_URL=database_url, HEADRACE_PROCESSES="1") as running:
        running.wait_ready(1)
        running.get("/thread?seconds=60")
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0
        assert running.journal().count("down") == 1


def test_a_shutdown_that_hangs_ends_before_it_is_killed(tmp_path: Path, database_url: str) -> None:
    with server(
        tmp_path,
        DATABASE_URL=database_url,
        HEADRACE_PROCESSES="1",
        HEADRACE_SERVER__GRACE_SECONDS="0",
        APP_SLOW_SHUTDOWN="60",
    ) as running:
        running.wait_ready(1)
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0
        assert "shutdown_cut" in running.log()
        assert "SIGKILL" not in running.log()


def test_no_process_outlives_a_killed_master(tmp_path: Path, database_url: str) -> None:
    with server(tmp_path, DATABASE_URL=database_url) as running:
        running.wait_ready()
        running.signal(signal.SIGKILL)
        running.wait_exit(5)
        wait_until(lambda: running.journal().count("down") == 2)
