"""A process that is paused for longer than its lease: its streams do not pretend to be complete."""

import json
import os
import signal

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RUN = {
    "assistant_id": "slow",
    "input": {"seconds": 0.5},
    "stream_mode": "custom",
    "on_disconnect": "continue",
}


@pytest.mark.parametrize("resumable", [False, True])
def test_a_stream_says_what_it_has_missed(tmp_path, database_url, resumable):
    with (
        live_server(
            tmp_path,
            database_url,
            HEADRACE_WORKER__LEASE_SECONDS="1.5",
            HEADRACE_WORKER__HEARTBEAT_SECONDS="0.4",
            HEADRACE_WORKER__SWEEP_SECONDS="0.2",
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        thread_id = client.post("/threads", json={}).json()["thread_id"]
        body = {**RUN, "stream_resumable": resumable}
        with client.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == 'data: {"step":0}')
            row = database.execute(
                "SELECT pid FROM processes JOIN runs USING (process_id)"
            ).fetchone()
            assert row is not None
            os.kill(row[0], signal.SIGSTOP)
            try:
                ended = "SELECT FROM runs WHERE status = 'success'"
                wait_until(lambda: database.execute(ended).fetchone() is not None, seconds=30)
            finally:
                os.kill(row[0], signal.SIGCONT)
            rest = [line for line in lines if line.startswith(("event", "data"))]
        names = [line.removeprefix("event: ") for line in rest[::2]]
        data = [json.loads(line.removeprefix("data: ")) for line in rest[1::2]]
        assert names[-1] == "end"
        if resumable:
            assert {"step": 2} in data
            assert not any("missed" in one for one in data)
        else:
            assert names[-3:-1] == ["metadata", "values"]
            assert data[-3]["missed"] is True
            assert data[-2]["done"] == [0, 1, 2]
