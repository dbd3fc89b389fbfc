"""The log queries of docs/symptoms.md find their lines in the log of a server that has troubles."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jq
import psycopg
import pytest

from tests.support.live import LiveServer, live_server
from tests.support.symptoms import Query, queries
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

CONFIG = Path(__file__).parents[1] / "support" / "graphs" / "symptoms.json"
TROUBLED: dict[str, Any] = {
    "HEADRACE_WORKER__MAX_CONCURRENT_RUNS": "4",
    "HEADRACE_WORKER__RUN_TIMEOUT_SECONDS": "4",
    "HEADRACE_WORKER__SLOW_NODE_SECONDS": "0.5",
    "HEADRACE_WORKER__LEASE_SECONDS": "3",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.5",
    "HEADRACE_WORKER__UNSERVED_TIMEOUT_SECONDS": "1",
    "HEADRACE_CALLERS__MAX_QUEUED_RUNS": "6",
    "HEADRACE_SERVER__STALL_LOG_SECONDS": "0.5",
    "HEADRACE_SERVER__DRAIN_DELAY_SECONDS": "0",
    "HEADRACE_SERVER__GRACE_SECONDS": "0.5",
    "HEADRACE_CHECKPOINTER__MAX_CHECKPOINT_BYTES": str(1024 * 1024),
}

#: Symptom to a text that stands in what its query finds.
FINDS = {
    "Slow first token": '"own"',
    "Runs wait": '"full"',
    "Nobody executes a graph": '"unserved_run_ended"',
    "Runs of crons come late or not at all": '"cron_disabled"',
    "Pods are not ready": '"event_loop_blocked"',
    "Clients get 500 or 503": "/threads/00000000-",
    "Clients get 429": '"run_refused"',
    "Streams are cut": '"run_released"',
    "Runs fail": "kaboom in node",
    "A run stopped": '"run_ended"',
    "A run ran twice": '"after_loss"',
    "A node takes long": '"node_slow"',
    "The event loop is blocked": '"sleep_once"',
    "Costs rose": '"steps": 3',
    "Memory grows": '"run_deaf"',
    "A deployment hurt": '"drain_cut_steps"',
    "The database is slow": '"notices_lost"',
    "A thread is huge": '"large"',
}


class Troubles:
    """Brings about what the page is about, in one server."""

    def __init__(self, server: LiveServer, database_url: str, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.database_url = database_url
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.stopped_run = ""

    def start(self, graph: str, **given: Any) -> tuple[int, str, str]:
        """The status of the answer, thread and run."""
        thread_id = self.client.post("/threads", json={}).json()["thread_id"]
        body = {"assistant_id": graph, "input": given}
        answer = self.client.post(f"/threads/{thread_id}/runs", json=body)
        return answer.status_code, thread_id, str(answer.json().get("run_id"))

    def wait_for(self, event: str, *, seconds: float = 40) -> None:
        wait_until(lambda: f'"event":"{event}"' in self.server.log(), seconds=seconds)

    def wait_idle(self) -> None:
        def idle() -> bool:
            found = self.execute("SELECT FROM runs WHERE status IN ('pending', 'running')")
            return not found

        wait_until(idle, seconds=60)

    def execute(self, sql: str) -> list[Any]:
        with psycopg.connect(self.database_url, autocommit=True) as database:
            found = database.execute(sql)
            return found.fetchall() if found.description is not None else []

    def pid_of_running(self) -> int:
        """The process of the run that is being executed."""
        sql = "SELECT pid FROM processes JOIN runs USING (process_id) WHERE status = 'running'"
        wait_until(lambda: self.execute(sql))
        return int(self.execute(sql)[0][0])

    def bad_runs(self) -> None:
        """Runs that raise, take long, are too large, are stopped, or hear no cancel."""
        self.start("boom", topic="x")
        self.start("slow", seconds=0.8)
        self.start("large", bytes=2 * 1024 * 1024, steps=2)
        until = self.folder / "until"
        self.start("deaf", how="on_the_loop", until=str(until))
        _, thread_id, self.stopped_run = self.start("slow", seconds=30)
        url = f"/threads/{thread_id}/runs/{self.stopped_run}/cancel"
        assert self.client.post(url, params={"wait": "true"}).status_code < 300
        self.wait_for("run_deaf")
        until.touch()
        self.wait_idle()

    def blocked_loop(self) -> None:
        self.start("block", seconds=1.5, slept=str(self.folder / "slept"))
        self.wait_for("event_loop_blocked")
        self.wait_idle()

    def too_many_runs(self) -> None:
        """More than there are places, and more than one caller may queue."""
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: self.start("slow", seconds=0.4)[0], range(60))
        assert 429 in set(answers)
        self.wait_idle()

    def nobodys_graph(self) -> None:
        """A run that is not due yet gets a graph that nobody has, and is due then. Such runs are
        sought every ten seconds.
        """
        thread_id = self.client.post("/threads", json={}).json()["thread_id"]
        body = {"assistant_id": "agent", "input": {}, "after_seconds": 3600}
        assert self.client.post(f"/threads/{thread_id}/runs", json=body).status_code == 200
        for sql in (
            "UPDATE runs SET graph_id = 'nobodys', created_at = now() - interval '1 hour'"
            " WHERE status = 'pending'",
            "UPDATE threads SET ready_graph_id = 'nobodys', ready_at = now() - interval '1 hour'"
            " WHERE ready_at IS NOT NULL",
        ):
            self.execute(sql)

    def orphaned_cron(self) -> None:
        """A cron whose assistant is gone when it is due."""
        body = {"assistant_id": "agent", "schedule": "0 0 1 1 *", "input": {}}
        assert self.client.post("/runs/crons", json=body).status_code == 200
        self.execute(
            "UPDATE crons SET assistant_id = gen_random_uuid(), next_run_date = now(),"
            " look_at = now()"
        )
        self.wait_for("cron_disabled")

    def lost_database(self) -> None:
        """Nobody may connect to it until a client has got 503."""
        with psycopg.connect(self.database_url, autocommit=True, dbname="postgres") as other:
            name = psycopg.conninfo.conninfo_to_dict(self.database_url)["dbname"]
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            wait_until(lambda: self.client.get(f"/threads/{UUID(int=1)}").status_code == 503)
            self.wait_for("notices_lost")
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        self.server.wait_ready()

    def killed_process(self) -> None:
        self.start("slow", seconds=1)
        os.kill(self.pid_of_running(), signal.SIGKILL)
        self.wait_for("run_rescued")
        self.wait_idle()
        self.server.wait_ready()

    def deployment(self) -> None:
        self.start("slow", seconds=5)
        self.pid_of_running()
        self.server.signal(signal.SIGTERM)
        self.wait_for("drain_cut_steps")
        self.server.wait_exit(30)


@pytest.fixture(scope="module")
def troubles(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubles]:
    folder = tmp_path_factory.mktemp("symptoms")
    with live_server(folder, module_database, config=CONFIG, kind=LiveServer, **TROUBLED) as server:
        troubles = Troubles(server, module_database, folder)
        with troubles.client:
            troubles.nobodys_graph()
            troubles.bad_runs()
            troubles.wait_for("unserved_run_ended")
            troubles.blocked_loop()
            troubles.too_many_runs()
            troubles.orphaned_cron()
            troubles.lost_database()
            troubles.killed_process()
            troubles.deployment()
            yield troubles


@pytest.fixture(scope="module")
def log(troubles: Troubles) -> str:
    return "\n".join(line for line in troubles.server.log().splitlines() if line[:1] == "{")


@pytest.mark.parametrize("query", queries("jq"), ids=lambda query: query.symptom)
def test_the_query_finds_its_line(query: Query, troubles: Troubles, log: str) -> None:
    program = jq.compile(query.text, args={"run_id": troubles.stopped_run})
    found = [json.dumps(one) for one in program.input_text(log).all()]
    assert any(FINDS[query.symptom] in one for one in found), found[:5]
    lines = log.count("\n")
    assert len(found) < lines / 2


def test_each_failed_run_has_one_line_that_says_why(log: str) -> None:
    """Besides those about other troubles: the run took long, or it did not stop."""
    lines = [json.loads(line) for line in log.splitlines()]
    failed = {
        line["run_id"]
        for line in lines
        if line["event"] == "run_ended" and line["status"] in ("error", "timeout")
    }
    told = [
        (line["run_id"], line["event"])
        for line in lines
        if line.get("run_id") in failed
        and line["level"] in ("warning", "error")
        and line["event"] not in ("node_slow", "run_deaf")
    ]
    assert {event for _, event in told} >= {"run_failed", "run_timed_out"}
    assert sorted(run_id for run_id, _ in told) == sorted(failed)


def test_each_symptom_has_a_line_to_find() -> None:
    assert FINDS.keys() == {query.symptom for query in queries("jq")}
