"""The primary dies, its standby is promoted: the server finds it by itself, and nothing is lost.

With synchronous replication, "nothing" is a promise. Without it, the last commits are gone; then a
run that has lived on goes on from a checkpoint that is there (docs/failover.md).
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from tests.chaos.postgres import Pair
from tests.db.test_standby import demote, promote
from tests.support.live import LiveServer, live_server
from tests.support.runs import present_timeline
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

SETTINGS: dict[str, Any] = {
    "HEADRACE_WORKER__LEASE_SECONDS": "5",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "1",
}
#: Longer than a standby takes to be cut off, and than crash and promotion take.
STEPS = {"seconds": 2, "last_seconds": 8}
SAY = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}


@pytest.fixture(params=[True], ids=["synchronous"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="headrace-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        both = Pair(Path(name), synchronous=request.param)
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


@pytest.mark.parametrize("pair", [False], indirect=True, ids=["asynchronous"])
def test_a_run_that_lives_on_does_not_go_on_behind_lost_checkpoints(tmp_path, pair):
    """Its second step is lost with the primary while its third one is under way."""
    assert pair.standby is not None
    hosts = f"127.0.0.1:{pair.primary.port},127.0.0.1:{pair.standby.port}"
    with live_server(tmp_path, f"postgresql://postgres@{hosts}/postgres", **SETTINGS) as server:
        thread_id = httpx.post(f"{server.url}/threads", json={}).json()["thread_id"]
        run = httpx.post(
            f"{server.url}/threads/{thread_id}/runs",
            json={"assistant_id": "slow", "input": STEPS},
        ).json()
        wait_until(lambda: steps_stored(pair.primary.url, thread_id) == 1, seconds=30)
        wait_until(lambda: steps_stored(pair.standby.url, thread_id) == 1, seconds=5)
        pair.part()
        wait_until(lambda: steps_stored(pair.primary.url, thread_id) == 2, seconds=30)
        began = time.monotonic()
        pair.fail_over()
        assert steps_stored(pair.primary.url, thread_id) == 1
        lost = fenced(pair.primary.url)
        assert len(lost) == 2
        wait_until(
            lambda: (
                server.get(f"/threads/{thread_id}/runs/{run['run_id']}").json().get("status")
                == "success"
            ),
            seconds=60,
        )
        took = time.monotonic() - began
        state = server.get(f"/threads/{thread_id}/state").json()
        assert state["values"]["done"] == [0, 1, 2]
        history = httpx.post(f"{server.url}/threads/{thread_id}/history", json={"limit": 50}).json()
        ids = {one["checkpoint"]["checkpoint_id"] for one in history}
        parents = [one["parent_checkpoint"] for one in history]
        assert {one["checkpoint_id"] for one in parents if one} <= ids
        assert [len(one["values"].get("done", [])) for one in history] == [3, 2, 1, 0, 0]
        # Both processes have come back under new ids, and nobody is suspected.
        assert not {one for one in fenced(pair.primary.url) if one in lost}
        log = server.log()
        assert log.count('"timeline_changed"') == 2
        with psycopg.connect(pair.primary.url) as connection:
            row = connection.execute("SELECT attempt, failures FROM runs").fetchone()
        assert row == (2, 0)
        print(f"ended {took:.1f} s after the primary died, promotion included")


def test_the_timeline_is_known_at_once_after_a_promotion(pair):
    """pg_control_checkpoint() may show the old one until the first checkpoint."""
    assert pair.standby is not None
    with psycopg.connect(pair.standby.url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            present_timeline(connection)
        assert connection.execute("SELECT headrace_left_behind_1('x')").fetchone() == (False,)
        pair.fail_over()
        assert present_timeline(connection) == "00000002"
        for timeline, left in (("00000001", True), ("00000002", False), (None, False)):
            found = connection.execute("SELECT headrace_left_behind_1(%s)", (timeline,))
            assert found.fetchone() == (left,)


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


def steps_stored(url: str, thread_id: str) -> int:
    """Steps of the slow graph whose checkpoint is there."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT coalesce(max((metadata ->> 'step')::int), 0) FROM checkpoints"
            " WHERE thread_id = %s",
            (thread_id,),
        ).fetchone()
    assert row is not None
    return int(row[0])


def fenced(url: str) -> set[UUID]:
    """Processes that are registered and not lost."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT process_id FROM processes WHERE NOT lost").fetchall()
    return {row[0] for row in rows}


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
