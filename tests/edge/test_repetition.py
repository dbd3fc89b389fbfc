"""Requests whose connections are cut: done again where that is safe."""

import time
from collections.abc import Callable
from threading import Thread
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.live import live_server

pytestmark = pytest.mark.acceptance

CUT_WAITING = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


def cut_while_it_waits(url: str, table: str, ask: Callable[[], httpx.Response]) -> int:
    """Send a request that waits for the lock of a table; cut what waits there for a second, and
    then let go. Return the status of the answer.
    """
    answers: list[int] = []
    with psycopg.connect(url) as holder:
        holder.execute(f"LOCK TABLE {table}")
        asking = Thread(target=lambda: answers.append(ask().status_code))
        asking.start()
        ends_at = time.monotonic() + 1.0
        with psycopg.connect(url, autocommit=True) as cutter:
            while time.monotonic() < ends_at:
                cutter.execute(CUT_WAITING)
                time.sleep(0.05)
        holder.rollback()
    asking.join(30)
    return answers[0]


@pytest.mark.parametrize("patience", ["30", "0"])
def test_reads_and_harmless_changes_are_done_again(tmp_path, database_url, patience):
    settings: dict[str, Any] = {"HEADRACE_DATABASE__AWAY_TIMEOUT_SECONDS": patience}
    with live_server(tmp_path, database_url, **settings) as server:
        thread = server.url + "/threads/" + made(server.url)
        asked = {
            "PATCH": lambda: httpx.patch(thread, json={"metadata": {"a": 1}}, timeout=30),
            "search": lambda: httpx.post(f"{server.url}/threads/search", json={}, timeout=30),
            "DELETE": lambda: httpx.delete(thread, timeout=30),
        }
        found = {
            name: cut_while_it_waits(database_url, "threads", ask) for name, ask in asked.items()
        }
        if patience == "0":
            assert set(found.values()) == {503}
        else:
            assert found == {"PATCH": 200, "search": 200, "DELETE": 204}
            assert '"request_repeated"' in server.log()


def made(url: str) -> str:
    return str(httpx.post(f"{url}/threads", json={}).json()["thread_id"])
