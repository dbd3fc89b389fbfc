"""Runs that hear no cancel, in real processes: they end in time, and are replaced."""

import signal
import time

import httpx
import psycopg
import pytest

from tests.support.live import GRAPHS, live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

DEAF = GRAPHS.with_name("deaf.json")


def begin(client, how):
    thread = client.post("/threads", json={}).json()["thread_id"]
    body = {"assistant_id": "deaf", "input": {"how": how, "until": "/nowhere/at/all"}}
    run = client.post(f"/threads/{thread}/runs", json=body).json()["run_id"]
    return f"/threads/{thread}/runs/{run}"


# It has a bound on time.
@pytest.mark.paired
@pytest.mark.parametrize("how", ["on_the_loop", "in_a_thread"])
def test_a_server_with_deaf_runs_ends_in_time(tmp_path, database_url, how):
    with (
        live_server(
            tmp_path,
            database_url,
            config=DEAF,
            HEADRACE_SERVER__GRACE_SECONDS="1",
            HEADRACE_SERVER__DRAIN_DELAY_SECONDS="0",
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        cut, running = begin(client, how), begin(client, how)
        time.sleep(0.5)
        client.post(f"{cut}/cancel", params={"wait": True})
        wait_until(lambda: client.get(cut).json()["status"] == "interrupted")
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        # Grace, margins, and a machine that has other work.
        assert server.wait_exit(20) == 0
        assert time.monotonic() - told < 1 + 2 + 3
    log = server.log()
    assert "Traceback" not in log
    assert "run_deaf" in log or how == "in_a_thread"
    with psycopg.connect(database_url) as database:
        row = database.execute(
            "SELECT status FROM runs WHERE run_id = %s", (running.rsplit("/", 1)[1],)
        ).fetchone()
    assert row == ("pending",)


def test_processes_that_only_deaf_runs_have_are_replaced(tmp_path, database_url):
    with (
        live_server(
            tmp_path,
            database_url,
            config=DEAF,
            HEADRACE_WORKER__MAX_CONCURRENT_RUNS="2",
            HEADRACE_WORKER__DEAF_SECONDS="2",
            HEADRACE_SERVER__GRACE_SECONDS="2",
            HEADRACE_SERVER__DRAIN_DELAY_SECONDS="0",
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        before = server.serving()
        runs = [begin(client, "in_a_thread") for _ in range(4)]
        wait_until(lambda: all(client.get(run).json()["status"] == "running" for run in runs))
        for run in runs:
            client.post(f"{run}/cancel", params={"wait": True})
        # No place is left, in any process.
        waiting = begin(client, "in_a_thread_of_its_own")
        assert client.get(waiting).json()["status"] == "pending"

        def status():
            try:
                return httpx.get(server.url + waiting, timeout=5).json()["status"]
            except (httpx.HTTPError, KeyError):
                return ""

        wait_until(lambda: status() == "success", seconds=30)
        wait_until(lambda: not set(before) & set(server.serving()), seconds=30)
        assert "process_unfit" in server.log()
