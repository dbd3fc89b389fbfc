"""kill -9 of one process of a pod, again and again: how soon its run goes on elsewhere.

    python -m tests.chaos.dead_process --kills 50 --processes 2

Each round starts a run of short steps, kills the process that executes it between two of its
checkpoints, and waits for the first checkpoint of the next attempt. The lease is headrace's own
(10 s) unless ``--lease`` says otherwise.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, LiteralString, Self

import httpx
import psycopg

from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from loadtests.measuring.figures import percentile
from tests.chaos.pods import GRAPH, lease_settings
from tests.support.database import database_settings
from tests.support.live import LiveServer, live_server
from tests.support.waiting import wait_until

#: From the kill to the next checkpoint, 99 of 100.
FLOOR_SECONDS, GOAL_SECONDS = 3.0, 1.0
#: Until it is no question of speed any more.
_PATIENCE_SECONDS = 120.0
_STEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Death:
    """Seconds from the kill of a process until a process has its run, and until its next
    checkpoint.
    """

    begun: float
    checkpoint: float
    failures: int


def kill_in_mid_run(
    server: LiveServer, database: psycopg.Connection[Any], *, after_seconds: float
) -> Death:
    """Start a run, kill its process after its first checkpoint, and see it go on and succeed."""
    (death,) = kill_in_mid_runs(server, database, 1, after_seconds=after_seconds)
    return death


def kill_in_mid_runs(
    server: LiveServer, database: psycopg.Connection[Any], runs: int, *, after_seconds: float
) -> list[Death]:
    """As :func:`kill_in_mid_run`, with so many runs at once. The process that has most of them is
    killed. What became of its runs, in the order in which they went on.
    """
    begun = [_Run.begin(server, database) for _ in range(runs)]
    wait_until(
        lambda: all(one.has(_CHECKPOINT_OF_ATTEMPT, attempt="1") for one in begun), seconds=30
    )
    time.sleep(after_seconds)
    owners = [run.row(_OWNER) for run in begun]
    ((killed, _),) = Counter(owners).most_common(1)
    assert killed is not None
    os.kill(killed[0], signal.SIGKILL)
    killed_at = time.monotonic()
    hit = [run for run, owner in zip(begun, owners, strict=True) if owner == killed]
    taken: dict[_Run, float] = {}
    gone_on: dict[_Run, float] = {}

    def all_went_on() -> bool:
        for run in hit:
            if run not in taken and run.has(_BEGUN_AGAIN):
                taken[run] = time.monotonic() - killed_at
            if run not in gone_on and run.has(_CHECKPOINT_OF_ATTEMPT, attempt="2"):
                gone_on[run] = time.monotonic() - killed_at
        return len(gone_on) == len(hit)

    _wait_closely(all_went_on)
    wait_until(lambda: all(one.has(_SUCCEEDED) for one in begun), seconds=60)
    return [
        Death(taken[run], checkpoint, (run.row(_FAILURES) or (0,))[0])
        for run, checkpoint in sorted(gone_on.items(), key=lambda one: one[1])
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A run on a thread of its own, and the connection on which it is looked at."""

    database: psycopg.Connection[Any]
    names: dict[str, str]

    @classmethod
    def begin(cls, server: LiveServer, database: psycopg.Connection[Any]) -> Self:
        body = {
            "assistant_id": "chaos",
            "input": {"turn": "t", "steps": 20, "seconds": _STEP_SECONDS},
            "durability": "sync",
        }
        with httpx.Client(base_url=server.url, timeout=30) as client:
            thread_id = client.post("/threads", json={}).json()["thread_id"]
            run_id = client.post(f"/threads/{thread_id}/runs", json=body).json()["run_id"]
        return cls(database, {"run_id": run_id, "thread_id": thread_id})

    def row(self, query: LiteralString, **values: str) -> tuple[Any, ...] | None:
        return self.database.execute(query, {**self.names, **values}).fetchone()

    def has(self, query: LiteralString, **values: str) -> bool:
        return self.row(query, **values) is not None


_OWNER = (
    "SELECT pid FROM processes JOIN runs USING (process_id)"
    " WHERE run_id = %(run_id)s AND status = 'running' AND NOT lost"
)
_BEGUN_AGAIN = "SELECT FROM runs WHERE run_id = %(run_id)s AND attempt = 2"
_CHECKPOINT_OF_ATTEMPT = (
    "SELECT FROM checkpoints WHERE thread_id = %(thread_id)s"
    " AND metadata ->> 'source' = 'loop' AND metadata ->> 'run_attempt' = %(attempt)s"
)
_SUCCEEDED = "SELECT FROM runs WHERE run_id = %(run_id)s AND status = 'success'"
_FAILURES = "SELECT failures FROM runs WHERE run_id = %(run_id)s"


def _wait_closely(condition: Callable[[], bool]) -> None:
    """Look often: a tenth of a second matters."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not every run went on"
        time.sleep(0.002)


def measure(
    folder: Path, url: str, *, kills: int, runs: int, processes: int, seed: int, **environment: str
) -> list[Death]:
    """Kill so often; before each kill all processes serve."""
    random = Random(seed)
    deaths: list[Death] = []
    with (
        live_server(
            folder, url, config=GRAPH, kind=LiveServer, processes=processes, **environment
        ) as server,
        psycopg.connect(url, autocommit=True) as database,
    ):
        for _ in range(kills):
            wait_until(lambda: len(server.serving()) == processes, seconds=60)
            after_seconds = random.uniform(0, 3 * _STEP_SECONDS)
            found = kill_in_mid_runs(server, database, runs, after_seconds=after_seconds)
            deaths += found
            print(" ".join(f"{one.checkpoint:.2f}" for one in found), flush=True)
    return deaths


def line(name: str, values: Sequence[float]) -> str:
    shown = [f"p{part:.0%}"[:-1] + f" {percentile(values, part):.2f} s" for part in (0.5, 0.99)]
    return f"{name:<36}{'  '.join(shown)}  max {max(values):.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.dead_process", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1, help="runs that go on at once")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lease", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-deaths-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "pg") as postgres:
            url = postgres.dsn()
            upgrade(database_settings(url))
            deaths = measure(
                folder,
                url,
                kills=given.kills,
                runs=given.runs,
                processes=given.processes,
                seed=given.seed,
                **lease_settings(given.lease),
            )
    print(
        f"{given.kills} kills, {len(deaths)} runs hit of {given.runs} at once,"
        f" {given.processes} processes, leases of {given.lease:g} s"
    )
    print(line("kill -9 to the next attempt", [one.begun for one in deaths]))
    print(line("kill -9 to the next checkpoint", [one.checkpoint for one in deaths]))
    worst = percentile([one.checkpoint for one in deaths], 0.99)
    print(f"floor {FLOOR_SECONDS:g} s, goal {GOAL_SECONDS:g} s")
    return 0 if worst <= FLOOR_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
