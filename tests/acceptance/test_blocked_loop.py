"""A node that sleeps in the event loop: its run and its neighbours' live on, and its line is named.

The times are the defaults' divided by five; TEST_LONG=1 sleeps 40 s under the defaults themselves.
"""

import asyncio
import json
import linecache
import os
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headrace.lifecycle import Tasks
from tests.support.live import LiveServer, live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

CONFIG = Path(__file__).parents[1] / "support" / "graphs" / "blocking.json"
LONG = bool(os.environ.get("TEST_LONG"))
NAP_SECONDS = 40.0 if LONG else 8.0
LEASE: dict[str, Any] = {
    "HEADRACE_WORKER__LEASE_SECONDS": "2",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.5",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.6",
}
FIFTH: dict[str, Any] = {
    **LEASE,
    "HEADRACE_WORKER__LOOP_STALL_LIMIT_SECONDS": "12",
    "HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS": "18",
    "HEADRACE_SERVER__STALL_LOG_SECONDS": "0.5",
    "HEADRACE_CHECKPOINTER__FLUSH_TIMEOUT_SECONDS": "2",
    "HEADRACE_CHECKPOINTER__RETRY_SECONDS": "6",
}


def events(server: LiveServer, name: str) -> list[dict[str, Any]]:
    lines = [line for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if line.get("event") == name]


async def run(client: httpx.AsyncClient, assistant: str, given: dict[str, Any]) -> tuple[str, str]:
    """The status of a run that somebody waits for, and its thread."""
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    await client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": assistant, "input": given}
    )
    runs = (await client.get(f"/threads/{thread_id}/runs")).json()
    return runs[0]["status"], thread_id


async def test_a_node_that_blocks_the_loop_costs_nobody_a_run(tmp_path, database_url):
    environment: dict[str, Any] = {} if LONG else FIFTH
    with live_server(tmp_path, database_url, config=CONFIG, **environment) as server:
        pids = server.serving()
        limits = httpx.Limits(max_keepalive_connections=0)
        tasks = Tasks()
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            neighbours = [
                tasks.start(run(client, "slow", {"seconds": NAP_SECONDS / 6}), name="slow")
                for _ in range(8)
            ]
            # Those of the same process have begun: they are blocked in the middle.
            await asyncio.to_thread(wait_until, lambda: running(database_url) == 8)
            slept = tmp_path / "slept"
            napping = run(client, "block", {"seconds": NAP_SECONDS, "slept": str(slept)})
            statuses = {status for status, _ in await asyncio.gather(napping, *neighbours)}
        assert statuses == {"success"}
        assert server.serving() == pids
        assert not events(server, "lease_lost")
        assert not events(server, "event_loop_silent")
        (blocked,) = events(server, "event_loop_blocked")
        assert Path(blocked["file"]).name == "blocking.py"
        assert (blocked["function"], blocked["node"]) == ("sleep_once", "nap")
        assert "time.sleep" in linecache.getline(blocked["file"], blocked["line"])
        assert blocked["blocked_thread_id"]
        (over,) = events(server, "event_loop_unblocked")
        assert over["seconds"] == pytest.approx(NAP_SECONDS, abs=2)
        assert "headrace_loop_stalls_total 1.0" in server.get("/metrics").text


async def test_above_the_limit_the_run_is_taken_away_and_the_process_comes_back(
    tmp_path, database_url
):
    limit: dict[str, Any] = {**FIFTH, "HEADRACE_WORKER__LOOP_STALL_LIMIT_SECONDS": "1"}
    with live_server(tmp_path, database_url, config=CONFIG, **limit) as server:
        pids = server.serving()
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            slept = tmp_path / "slept"
            status, thread_id = await run(client, "block", {"seconds": 7.0, "slept": str(slept)})
            # By whom it was taken over ended it; who blocked had no say in it any more.
            assert status in {"success", "error"}
            assert events(server, "event_loop_silent")
            (lost,) = [line for line in events(server, "lease_lost") if "process_id" in line]
            assert server.serving() == pids
            # Under another id it takes runs again.
            await asyncio.to_thread(wait_until, lambda: len(registered(server)) == 3)
            assert lost["process_id"] in registered(server)
            again = await client.post(
                f"/threads/{thread_id}/runs/wait",
                json={"assistant_id": "block", "input": {"slept": str(slept)}},
            )
            assert again.status_code == 200


def registered(server: LiveServer) -> set[str]:
    return {line["process_id"] for line in events(server, "process_registered")}


def running(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()
    assert row is not None
    return int(row[0])
