"""A process of a pod dies: its run goes on long before its lease of 10 s has expired."""

import json
import os
import signal
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psycopg
import pytest

from headrace.observability.slots import read_slots
from tests.chaos.dead_process import FLOOR_SECONDS, kill_in_mid_run, kill_in_mid_runs
from tests.chaos.pods import GRAPH
from tests.support.exposition import Exposition
from tests.support.live import GRAPHS, live_server
from tests.support.waiting import wait_until

# The bounds are on time.
pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

BLOCKING, HOSTILE = GRAPHS.with_name("blocking.json"), GRAPHS.with_name("hostile.json")


@contextmanager
def pod(folder, url, **given):
    with (
        live_server(folder, url, **{"config": GRAPH, **given}) as server,
        psycopg.connect(url, autocommit=True) as database,
    ):
        yield server, database


def serve(server, *, processes):
    wait_until(lambda: len(server.serving()) == processes, seconds=60)


def begin(server, assistant_id, **given):
    """A run in the background, without a thread of the test's own."""
    body = {"assistant_id": assistant_id, "input": given}
    return httpx.post(f"{server.url}/runs", json=body, timeout=30).json()["run_id"]


def lines(server):
    """Of its log, those that are headrace's."""
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def proven(server):
    """The rescues of all processes, by what proved them."""
    found = Exposition(server.get("/metrics").text)
    return tuple(
        found.count("headrace_rescue_proofs_total", proof=proof) for proof in ("exit", "lease")
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_kill_9_of_one_process(tmp_path, database_url, processes):
    """With one process, the one that gunicorn starts in its place goes on with the run."""
    with pod(tmp_path, database_url, processes=processes, HEADRACE_METRICS__CACHE_SECONDS="0") as (
        server,
        database,
    ):
        for kills in (1, 2, 3):
            serve(server, processes=processes)
            death = kill_in_mid_run(server, database, after_seconds=0.1 * kills)
            print(f"{processes} processes: {death.checkpoint:.2f} s to the next checkpoint")
            assert death.checkpoint < FLOOR_SECONDS
            assert death.failures == 1
            assert proven(server) == (kills, 0)
        rescued = [one["proof"] for one in lines(server) if one["event"] == "run_rescued"]
        assert rescued == ["exit"] * 3
        assert "lease_lost" not in server.log()


def test_all_runs_of_a_process_go_on_at_once(tmp_path, database_url):
    """None waits for another: a process that is lost once is no sign that one of them kills."""
    with pod(tmp_path, database_url, processes=2) as (server, database):
        serve(server, processes=2)
        deaths = kill_in_mid_runs(server, database, 10, after_seconds=0.1)
        print(" ".join(f"{death.checkpoint:.2f}" for death in deaths))
        assert len(deaths) >= 2
        assert {death.failures for death in deaths} == {1}
        assert deaths[-1].checkpoint < FLOOR_SECONDS
        # Each of them takes two seconds: a second one after the first would be seen.
        assert deaths[-1].checkpoint - deaths[0].checkpoint < 1.0
        assert "run_executed_apart" not in server.log()


def test_a_frozen_process_keeps_its_run(tmp_path, database_url):
    """It is not dead. Its lease decides, and that has not expired."""
    with pod(tmp_path, database_url) as (server, database):
        run_id = begin(server, "chaos", turn="t", steps=10, seconds=0.2)
        owner = database.execute(
            "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s", (run_id,)
        ).fetchone()
        assert owner is not None
        os.kill(owner[0], signal.SIGSTOP)
        try:
            time.sleep(FLOOR_SECONDS + 1)
            row = database.execute("SELECT status, attempt FROM runs").fetchone()
            assert row == ("running", 1)
        finally:
            os.kill(owner[0], signal.SIGCONT)
        ended = "SELECT FROM runs WHERE status = 'success' AND attempt = 1"
        wait_until(lambda: database.execute(ended).fetchone() is not None, seconds=20)


def test_two_processes_that_die_at_once(tmp_path, database_url):
    with pod(tmp_path, database_url, processes=3) as (server, database):
        owners: dict[int, str] = {}

        def two_owners():
            run_id = begin(server, "chaos", turn="t", steps=20, seconds=0.2)
            row = database.execute(
                "SELECT pid FROM processes JOIN runs USING (process_id) WHERE run_id = %s",
                (run_id,),
            ).fetchone()
            if row is not None:
                owners[row[0]] = run_id
            return len(owners) == 2

        wait_until(two_owners, seconds=30)
        for pid in owners:
            os.kill(pid, signal.SIGKILL)
        running = "SELECT count(*) FROM runs WHERE status = 'running' AND process_id = ANY (%s)"
        dead = "SELECT array_agg(process_id) FROM processes WHERE pid = ANY (%s)"
        (ids,) = database.execute(dead, (list(owners),)).fetchone() or ([],)
        wait_until(
            lambda: database.execute(running, (ids,)).fetchone() == (0,), seconds=FLOOR_SECONDS
        )


def test_a_run_that_ends_its_processes_is_refused_soon(tmp_path, database_url):
    """Three exits with a code of their own; each would cost a lease."""
    with pod(tmp_path, database_url, config=HOSTILE, processes=2) as (server, database):
        begun = time.monotonic()
        with suppress(httpx.HTTPError):
            begin(server, "hostile", how="kills_4")
        ended = "SELECT error ->> 'error', failures FROM runs WHERE status = 'error'"
        wait_until(lambda: database.execute(ended).fetchone() == ("ProcessLost", 3), seconds=40)
        took = time.monotonic() - begun
        print(f"three losses in {took:.1f} s")
        assert took < 3 * FLOOR_SECONDS
        serve(server, processes=2)


def test_a_process_that_gunicorn_aborts(tmp_path, database_url):
    """Its lease is fresh: a thread renews it while the event loop is blocked."""
    with pod(
        tmp_path,
        database_url,
        config=BLOCKING,
        processes=2,
        HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS="5",
    ) as (server, database):
        slept = tmp_path / "slept"
        with suppress(httpx.HTTPError):
            begin(server, "block", seconds=60, slept=str(slept))
        # gunicorn logs it, and aborts the process.
        wait_until(lambda: "WORKER TIMEOUT" in server.log(), seconds=30)
        aborted = time.monotonic()
        ended = "SELECT FROM runs WHERE status = 'success' AND attempt = 2"
        wait_until(lambda: database.execute(ended).fetchone() is not None, seconds=30)
        took = time.monotonic() - aborted
        print(f"{took:.1f} s after the abort")
        assert took < FLOOR_SECONDS


def test_after_a_reload_and_beside_a_new_master(tmp_path, database_url):
    with pod(tmp_path, database_url) as (server, database), ExitStack() as stack:
        assert server.master is not None

        def kill():
            death = kill_in_mid_run(server, database, after_seconds=0.1)
            assert death.checkpoint < FLOOR_SECONDS

        before = set(server.serving())
        server.signal(signal.SIGHUP)
        wait_until(lambda: len(now := set(server.serving())) == 2 and not now & before, seconds=60)
        kill()
        serve(server, processes=2)
        server.signal(signal.SIGUSR2)
        serve(server, processes=4)
        masters = {slot.master for slot in read_slots(server.runtime_dir)}
        (new,) = masters - {server.master.pid}
        stack.callback(end, new)
        # It may be a process of either.
        kill()
        server.signal(signal.SIGTERM)
        server.master.wait(30)
        serve(server, processes=2)
        kill()


def end(master):
    """End a master that is no child of the test."""
    with suppress(ProcessLookupError):
        os.kill(master, signal.SIGTERM)

    def gone():
        try:
            os.kill(master, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, seconds=30)


def test_a_process_that_only_executes_runs(tmp_path, database_url):
    folders = tmp_path / "api", tmp_path / "worker"
    for folder in folders:
        folder.mkdir()
    with (
        live_server(
            folders[0], database_url, config=GRAPH, processes=1, HEADRACE_WORKER__ENABLED="false"
        ) as api,
        pod(folders[1], database_url, processes=1, HEADRACE_SERVER__API="false") as (_, database),
    ):
        assert kill_in_mid_run(api, database, after_seconds=0.1).checkpoint < FLOOR_SECONDS
