"""The pod as probers and scrapers see it, and the ways a server process fails."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.database import PrivatePostgres
from tests.support.exposition import Exposition
from tests.support.processes import ServerUnderTest, server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]


@pytest.fixture(scope="module")
def pod(
    tmp_path_factory: pytest.TempPathFactory, module_database: str
) -> Iterator[ServerUnderTest]:
    """Two processes for the tests that leave them alive."""
    with server(
        tmp_path_factory.mktemp("pod"),
        DATABASE_URL=module_database,
        HEADRACE_SERVER__SLOT_STALE_SECONDS="1.5",
    ) as running:
        running.wait_ready()
        yield running


def test_metrics_are_those_of_all_processes(pod: ServerUnderTest) -> None:
    asked: dict[int, int] = {}
    while len(asked) < 2 or sum(asked.values()) < 20:
        pid = pod.get("/pid").json()
        asked[pid] = asked.get(pid, 0) + 1
    text = pod.get("/metrics").text
    requests = {"method": "GET", "route": "/pid", "status": "200", "code": ""}
    found = Exposition(text)
    assert found.value("headrace_http_requests_total", **requests) == sum(asked.values())
    assert 'headrace_processes{state="serving"} 2.0' in text
    one = re.search(r"^headrace_resident_memory_min_bytes (\S+)", text, re.M)
    both = re.search(r"^headrace_resident_memory_bytes (\S+)", text, re.M)
    assert one
    assert both
    assert float(both[1]) > 1.9 * float(one[1])


def test_health_describes_each_process(pod: ServerUnderTest) -> None:
    report = pod.get("/health").json()
    assert report["status"] == "ready"
    assert [item["pid"] for item in report["processes"]] == sorted(pod.pids())
    for item in report["processes"]:
        assert item["state"] == "serving"
        assert set(item["checkpoints"]) >= {"p50_seconds", "p95_seconds", "p99_seconds"}


def test_a_stopped_process_is_named(pod: ServerUnderTest) -> None:
    stopped, other = pod.pids()[:2]
    os.kill(stopped, signal.SIGSTOP)
    try:
        # A connection that the stopped process would have to accept only costs its client time.
        def named() -> bool:
            try:
                response = httpx.get(pod.url + "/readyz", timeout=1.0)
            except httpx.HTTPError:
                return False
            reasons = response.json().get("reasons", [])
            return response.status_code == 503 and any(f"process {stopped} " in r for r in reasons)

        wait_until(named)
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: pod.get("/readyz").status_code == 200)
    assert pod.get("/livez").json()["pid"] in {stopped, other}


def test_a_killed_process_is_replaced_and_forgotten(pod: ServerUnderTest) -> None:
    killed = pod.pids()[-1]
    started = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(pod.pids()) == 3)
    wait_until(lambda: not (pod.runtime_dir / "slots" / f"{killed}.json").exists())
    wait_until(lambda: pod.get("/readyz").status_code == 200)
    assert time.monotonic() - started < 10
    assert killed not in [item["pid"] for item in pod.get("/health").json()["processes"]]


def test_a_refusal_to_start_is_one_sentence_and_the_end(tmp_path: Path) -> None:
    refuse = tmp_path / "refuse"
    refuse.touch()
    with server(tmp_path, APP_REFUSE=str(refuse)) as running:
        assert running.wait_exit(60) == 3
        assert running.log().count("HR999 the test: asked to refuse. Ask less.") == 1
        assert "Traceback" not in running.log()
        # No process was tried a second time.
        assert 1 <= running.log().count("Booting worker") <= 2


def test_a_process_that_cannot_come_back_leaves_the_others_serving(
    tmp_path: Path, database_url: str
) -> None:
    refuse = tmp_path / "refuse"
    with server(tmp_path, DATABASE_URL=database_url, APP_REFUSE=str(refuse)) as running:
        running.wait_ready()
        killed, left = running.pids()
        refuse.touch()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: "process_start_failed" in running.log())
        assert running.get("/pid").json() == left
        refuse.unlink()
        wait_until(lambda: len(running.pids()) == 3, seconds=20)
        running.signal(signal.SIGTERM)
        assert running.wait_exit(5) == 0


def test_the_frame_that_blocks_the_loop_is_logged(tmp_path: Path, database_url: str) -> None:
    with server(
        tmp_path,
        DATABASE_URL=database_url,
        HEADRACE_PROCESSES="1",
        HEADRACE_SERVER__PROCESS_TIMEOUT_SECONDS="5",
    ) as running:
        running.wait_ready(1)
        with pytest.raises(httpx.HTTPError):
            httpx.get(running.url + "/block?seconds=30", timeout=12)
        log = running.log()
        assert "in block_the_loop" in log.split("WORKER TIMEOUT")[0]
        assert "WORKER TIMEOUT" in log


def test_readiness_follows_the_database_and_liveness_does_not(
    tmp_path: Path, private_postgres: PrivatePostgres
) -> None:
    def told(running: ServerUnderTest) -> tuple[float, float, float]:
        found = Exposition(running.health("/metrics").text)
        names = ("ready", "database_reachable", "schema_fit")
        ready, reachable, fit = (found.value(f"headrace_{name}") for name in names)
        return ready, reachable, fit

    with server(
        tmp_path,
        with_health_port=True,
        DATABASE_URL=private_postgres.url,
        HEADRACE_METRICS__CACHE_SECONDS="0",
    ) as running:
        running.wait_ready()
        assert told(running) == (1, 1, 1)
        private_postgres.stop()
        answers = []

        def unready() -> bool:
            answers.append(running.get("/readyz"))
            return answers[-1].status_code == 503

        # The reasons of that answer: of the next one the other process may know nothing yet.
        wait_until(unready, seconds=4)
        (reason,) = answers[-1].json()["reasons"]
        assert reason.startswith("the database does not answer")
        wait_until(lambda: told(running) == (0, 0, 1))
        assert running.get("/livez").status_code == 200
        assert running.get("/startupz").status_code == 200
        private_postgres.start()
        # Either process may answer.
        wait_until(
            lambda: {running.get("/readyz").status_code for _ in range(6)} == {200}, seconds=20
        )
        wait_until(lambda: told(running) == (1, 1, 1))


def test_a_process_whose_task_cannot_be_kept_up_is_replaced(
    tmp_path: Path, database_url: str
) -> None:
    with server(tmp_path, DATABASE_URL=database_url) as running:
        running.wait_ready()
        running.get("/fault")
        wait_until(lambda: running.journal().count("up") == 3, seconds=20)
        wait_until(lambda: running.journal().count("down") == 1)
        wait_until(lambda: running.get("/readyz").status_code == 200)
        log = running.log()
    assert "background tasks end again and again: vital" in log
    assert "process_unfit" in log
    assert len({*running.pids()}) == 3
