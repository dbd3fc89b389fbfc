"""kill -9 of a process in mid-run: its run ends as error, its thread is free again, soon."""

import json
import os
import signal
import time
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.processes import wait_until

pytestmark = pytest.mark.acceptance

LEASE: dict[str, Any] = {
    "HEADRACE_WORKER__LEASE_SECONDS": "2",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.5",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.5",
}
RUN = {"assistant_id": "slow", "input": {"seconds": 20}, "stream_mode": "custom"}


def test_the_run_of_a_killed_process_ends_and_its_thread_is_free(tmp_path, database_url):
    with (
        live_server(tmp_path, database_url, **LEASE) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        thread_id = client.post("/threads", json={}).json()["thread_id"]
        with client.stream("POST", f"/threads/{thread_id}/runs/stream", json=RUN) as stream:
            lines = stream.iter_lines()
            data = next(line for line in lines if line.startswith("data: "))
            run_id = json.loads(data.removeprefix("data: "))["run_id"]
            row = database.execute(
                "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s",
                (run_id,),
            ).fetchone()
            assert row is not None
            assert row[0] in server.serving()
            os.kill(row[0], signal.SIGKILL)
            killed_at = time.monotonic()
            with pytest.raises(httpx.HTTPError):
                for _ in lines:
                    pass
        wait_until(
            lambda: client.get(f"/threads/{thread_id}").json()["status"] == "error", seconds=20
        )
        took = time.monotonic() - killed_at
        run = client.get(f"/threads/{thread_id}/runs/{run_id}").json()
        assert run["status"] == "error"
        assert client.get(f"/threads/{thread_id}").json()["error"]["error"] == "ProcessLost"
        wait_until(lambda: len(server.serving()) == 2)
        again = client.post(
            f"/threads/{thread_id}/runs/wait",
            json={"assistant_id": "slow", "input": {"seconds": 0}},
        )
        assert again.status_code == 200
        print(f"thread free {took:.1f} s after kill -9, lease 2 s")
