"""User code that ends its process, or tries to: the pod lives, and so do innocent runs."""

import json

import httpx
import psycopg
import pytest

from tests.support.live import GRAPHS, live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

HOSTILE = GRAPHS.with_name("hostile.json")


def body(how):
    return {"assistant_id": "hostile", "input": {"how": how}}


def lines(server):
    """Of its log, those that are headrace's."""
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def test_an_exit_that_leaves_its_task_ends_no_process(tmp_path, database_url):
    with (
        live_server(tmp_path, database_url, config=HOSTILE) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        before = server.serving()
        for how in (
            "exit_3",
            "in_a_task",
            "callback",
            "from_a_thread",
            "left_alone",
            "stops_the_loop",
        ):
            for _ in range(3):
                found = client.post("/runs/wait", json=body(how))
                assert found.status_code == 200, how
                failed = how in ("exit_3", "in_a_task")
                assert ("__error__" in found.json()) == failed, (how, found.text)
        assert server.serving() == before
        assert "exit_refused" in server.log()


def test_a_run_that_kills_ends_and_the_innocent_beside_it_succeed(tmp_path, database_url):
    """Seven runs begin together; one of them ends whatever process executes it, as gunicorn's own
    exit codes do. It takes others down with it twice. Then these are executed apart, as it is.
    """
    with (
        live_server(
            tmp_path,
            database_url,
            config=HOSTILE,
            HEADRACE_WORKER__LEASE_SECONDS="1.5",
            HEADRACE_WORKER__HEARTBEAT_SECONDS="0.4",
            HEADRACE_WORKER__SWEEP_SECONDS="0.2",
            HEADRACE_WORKER__APART_SECONDS="1",
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        assert server.master is not None

        def make(how, **more):
            thread = client.post("/threads", json={}).json()["thread_id"]
            run = client.post(f"/threads/{thread}/runs", json={**body(how), **more}).json()
            return run["run_id"]

        innocent = [make("sleeps_long") for _ in range(6)]

        def status():
            rows = database.execute("SELECT run_id::text, status FROM runs").fetchall()
            return dict(rows)

        wait_until(lambda: set(status().values()) == {"running"})
        # In a second: the answer is out before the process dies.
        poison = make("kills_4", after_seconds=1)
        wait_until(lambda: not {"pending", "running"} & set(status().values()), seconds=90)
        assert [status()[run_id] for run_id in innocent] == ["success"] * 6
        ended = database.execute(
            "SELECT error->>'error', failures FROM runs WHERE run_id = %s", (poison,)
        ).fetchone()
        assert ended == ("ProcessLost", 3)
        found = database.execute("SELECT run_id::text, failures FROM runs WHERE status = 'success'")
        failures: dict[str, int] = dict(found.fetchall())
        assert max(failures.values()) == 2
        apart = {line["run_id"] for line in lines(server) if line["event"] == "run_executed_apart"}
        assert apart == {poison} | {run_id for run_id, lost in failures.items() if lost == 2}
        assert server.master.poll() is None
        wait_until(lambda: len(server.serving()) == 2, seconds=20)
        # On a connection of its own: those to the dead processes are broken.
        answered = httpx.post(f"{server.url}/runs/wait", json=body("nothing_of_that"), timeout=30)
        assert answered.status_code == 200
