"""API and runs apart: who accepts a run executes none, and who executes it has no API."""

import time
from contextlib import ExitStack

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RUN = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}


def test_a_run_accepted_without_a_worker_is_executed_by_one(tmp_path, database_url):
    with ExitStack() as stack:
        folders = tmp_path / "api", tmp_path / "worker"
        for folder in folders:
            folder.mkdir()
        api = stack.enter_context(
            live_server(folders[0], database_url, processes=1, HEADRACE_WORKER__ENABLED="false")
        )
        thread_id = httpx.post(f"{api.url}/threads", json={}).json()["thread_id"]
        url = f"{api.url}/threads/{thread_id}"
        with httpx.stream("POST", f"{url}/runs/stream", json=RUN, timeout=60) as stream:
            assert stream.status_code == 200
            assert httpx.get(url).json()["status"] == "busy"
            worker = stack.enter_context(
                live_server(folders[1], database_url, processes=1, HEADRACE_SERVER__API="false")
            )
            lines = list(stream.iter_lines())
        assert "event: end" in lines
        assert any("message 1" in line for line in lines)
        wait_until(lambda: httpx.get(url).json()["status"] == "idle")
        began = time.monotonic()
        waited = httpx.post(f"{url}/runs/wait", json=RUN, timeout=30)
        print(f"runs/wait through another process took {time.monotonic() - began:.2f} s")
        assert len(waited.json()["messages"]) == 4
        with psycopg.connect(database_url) as database:
            pids = database.execute(
                "SELECT DISTINCT pid FROM processes JOIN runs USING (process_id)"
            ).fetchall()
        assert {pid for (pid,) in pids} <= set(worker.serving())
        assert worker.status("/threads") == 404
