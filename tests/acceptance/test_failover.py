"""The primary dies, its standby is promoted: the server finds it by itself, and nothing is lost.

The replication is synchronous, so "nothing" is a promise; docs/failover.md says what it is without.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.chaos.postgres import Pair
from tests.db.test_standby import demote, promote
from tests.support.live import LiveServer, live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

SETTINGS: dict[str, Any] = {
    "HEADRACE_WORKER__LEASE_SECONDS": "5",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "1",
}
SAY = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="headrace-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        both = Pair(Path(name))
        try:
            both.start()
            yield both
        finally:
            both.stop()


def say(server: LiveServer, thread_id: str) -> httpx.Response:
    return httpx.post(f"{server.url}/threads/{thread_id}/runs/wait", json=SAY, timeout=60)


def ready_after(server: LiveServer, began: float) -> float:
    # Either process may answer.
    wait_until(lambda: {server.status("/readyz") for _ in range(6)} == {200}, seconds=30)
    return time.monotonic() - began


def test_a_promoted_standby_is_found_and_has_every_turn(tmp_path, pair):
    assert pair.standby is not None
    hosts = f"127.0.0.1:{pair.primary.port},127.0.0.1:{pair.standby.port}"
    with live_server(tmp_path, f"postgresql://postgres@{hosts}/postgres", **SETTINGS) as server:
        thread_id = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
        assert len(say(server, thread_id).json()["messages"]) == 2
        pids = server.serving()
        began = time.monotonic()
        pair.fail_over()
        took = ready_after(server, began)
        wait_until(lambda: renewed(pair.primary.url) == 2, seconds=15)
        wait_until(lambda: listening(pair.primary.url) == 2, seconds=15)
        assert len(say(server, thread_id).json()["messages"]) == 4
        assert server.serving() == pids
        print(f"ready {took:.1f} s after the primary died, promotion included")


def test_a_server_that_is_demoted_in_place_makes_the_pod_unready(tmp_path, private_postgres):
    """As behind one address that leads to whoever holds it."""
    with live_server(tmp_path, private_postgres.url, **SETTINGS) as server:
        thread_id = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
        pids = server.serving()
        demote(private_postgres)
        wait_until(lambda: {server.status("/readyz") for _ in range(6)} == {503}, seconds=15)
        assert server.report()["database"] == {"reachable": False}
        assert server.status("/livez") == 200
        began = time.monotonic()
        promote(private_postgres)
        took = ready_after(server, began)
        # Its lease may have run out meanwhile; without one a process refuses runs, with 503.
        wait_until(lambda: renewed(private_postgres.url) == 2, seconds=15)
        wait_until(lambda: listening(private_postgres.url) == 2, seconds=15)
        assert len(say(server, thread_id).json()["messages"]) == 2
        assert server.serving() == pids
        print(f"ready {took:.1f} s after the promotion")


def renewed(url: str) -> int:
    """Processes whose lease is good, by the database's own clock."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM processes WHERE NOT lost"
            " AND heartbeat_at > now() - make_interval(secs => 3)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def listening(url: str) -> int:
    """Processes that hear notices there again."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query = 'LISTEN headrace' AND state = 'idle'"
        ).fetchone()
    assert row is not None
    return int(row[0])
