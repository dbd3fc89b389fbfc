"""More clients than the server can serve: ``make overload`` or ``python -m loadtests.overload``.

Closed-loop clients ask for short durable runs, each on a thread of its own. First come as many as
the server carries best, then many more that honour ``Retry-After``, then the first number again.
Another client asks ``/livez`` on new connections all the time. Afterwards the rows are counted.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from loadtests.common.server import Difference, snapshot
from loadtests.measuring import machine
from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load
from loadtests.measuring.database import MeasuredDatabase, measured_database
from loadtests.measuring.figures import missed
from loadtests.measuring.results import RESULTS, write_result
from loadtests.measuring.servers import ServerProcess, headrace_server
from loadtests.overload.clients import probes, short_runs
from loadtests.overload.rounds import Phase, Round, Rows
from loadtests.overload.verdict import judged, lines_of

MANIFEST = Path(__file__).parents[1] / "graphs" / "langgraph.json"

_LIVEZ_PAUSE_SECONDS = 0.05
_SETTLE_SECONDS = 20.0
_WARM_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    calm: Sequence[int]
    crowd: int
    calm_seconds: float
    crowd_seconds: float
    after_seconds: float
    rounds: int
    processes: int = 2


def measure(plan: Plan, server: ServerProcess) -> Iterator[Round]:
    """The rounds, one by one."""
    for _ in range(plan.rounds):
        calm = [_phase(server, clients, plan.calm_seconds) for clients in plan.calm]
        crowd = _phase(server, plan.crowd, plan.crowd_seconds)
        after = _phase(server, plan.calm[0], plan.after_seconds)
        yield Round(calm, crowd, after)


def _phase(server: ServerProcess, clients: int, seconds: float) -> Phase:
    load = Load(
        server.port, short_runs, connections=clients, seconds=seconds, honour_retry_after=True
    )
    livez = Load(
        server.port,
        probes,
        connections=1,
        seconds=seconds,
        think_seconds=_LIVEZ_PAUSE_SECONDS,
    )
    cpu = server.cpu_seconds()
    with load_process(load) as runs, load_process(livez) as probe:
        runs.wait_begun()
        probe.wait_begun()
        began = time.perf_counter()
        runs.wait_ended()
        ended = time.perf_counter()
        probe.wait_ended()
        outcome, probed = runs.outcome(), probe.outcome()
    return Phase(clients, outcome, probed, server.cpu_seconds() - cpu, began, ended)


def rows_of(database: MeasuredDatabase, accepted: int, gained: Difference) -> Rows:
    """Count the rows once no run is under way, or the time to settle is over."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with psycopg.connect(database.url, autocommit=True) as connection:
        while True:
            found = connection.execute(
                "SELECT status::text, count(*) FROM runs GROUP BY 1"
            ).fetchall()
            by_status = {str(status): int(count) for status, count in found}
            rows = Rows(by_status, accepted, round(gained.total("headrace_lease_losses_total")))
            if not rows.unfinished or time.monotonic() > deadline:
                break
            time.sleep(0.5)
    rows.refusals = gained.by("headrace_http_requests_total", "code")
    return rows


def run(plan: Plan, *, results: Path = RESULTS, settings: dict[str, str] | None = None) -> int:
    """The whole measurement; the exit code."""
    before_load = machine.facts()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-overload-") as folder,
        measured_database(os.environ.get("DATABASE_URL")) as database,
        headrace_server(
            database.url,
            manifest=MANIFEST,
            folder=Path(folder),
            processes=plan.processes,
            settings=settings,
        ) as server,
    ):
        before = snapshot(server.url, {})
        warm_up = _phase(server, plan.calm[0], min(_WARM_UP_SECONDS, plan.calm_seconds))
        database.analyze()
        rounds = list(measure(plan, server))
        accepted = warm_up.accepted + sum(phase.accepted for one in rounds for phase in one.phases)
        rows = rows_of(database, accepted, Difference(before, snapshot(server.url, {})))
        facts = database.facts()
    table = judged(rounds, rows)
    path = write_result(
        "overload",
        {
            "machine": before_load,
            "postgres": facts,
            "processes": plan.processes,
            "rounds": [[phase.plain() for phase in one.phases] for one in rounds],
            "rows": {"by_status": rows.by_status, "answered": rows.accepted},
            "refusals": rows.refusals,
            "judged": [one.plain() for one in table],
        },
        folder=results,
    )
    sys.stdout.write("\n".join([*lines_of(rounds, rows, table), f"results: {path}", ""]))
    return int(missed(table))


def main() -> None:
    # An end by signal stops server and database too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="python -m loadtests.overload", description=__doc__)
    parser.add_argument("--clients", type=int, default=320)
    parser.add_argument("--calm", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the crowd")
    parser.add_argument("--calm-seconds", type=float, default=10.0)
    parser.add_argument("--after-seconds", type=float, default=15.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="HEADRACE_...=VALUE", help="of the server"
    )
    given = parser.parse_args()
    plan = Plan(
        calm=given.calm,
        crowd=given.clients,
        calm_seconds=given.calm_seconds,
        crowd_seconds=given.seconds,
        after_seconds=given.after_seconds,
        rounds=given.rounds,
    )
    settings = dict(one.split("=", 1) for one in given.set)
    sys.exit(run(plan, results=given.results, settings=settings))


if __name__ == "__main__":
    main()
