"""``headrace serve`` as it is typed: it becomes gunicorn, and leaves nothing behind."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from tests.support.processes import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


def test_it_leaves_nothing_behind(tmp_path, database_url):
    port = free_port()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "headrace", "serve", f"--port={port}", "--processes=1"],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": database_url, "TMPDIR": str(temporary)},
            stdout=log,
            stderr=log,
        )

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(ready, seconds=30)
        (runtime,) = temporary.glob("headrace-*")
        assert list((runtime / "slots").glob("*.json"))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert not list(temporary.glob("headrace-*"))


def test_a_worker_answers_health_and_metrics_and_no_request(tmp_path, database_url):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "headrace", "worker", f"--port={port}", "--processes=1"],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": database_url, "HEADRACE_HOST": "0.0.0.0"},
            stdout=log,
            stderr=log,
        )

    def answered(path: str) -> int:
        try:
            return httpx.get(url + path).status_code
        except httpx.TransportError:
            return 0

    try:
        wait_until(lambda: answered("/readyz") == 200, seconds=30)
        assert answered("/metrics") == answered("/livez") == answered("/health") == 200
        assert answered("/info") == answered("/openapi.json") == answered("/docs") == 404
        assert httpx.post(f"{url}/threads", json={}).status_code == 404
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
