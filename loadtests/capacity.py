"""What a number of runs needs: ``python -m loadtests.capacity --runs-per-second 500``.

The constants come from ``loadtests/results/capacity.json``. ``--measure`` measures them on this
machine, predicts what it can serve at most, measures that too, and ends with 1 when the two differ
by more than a fifth.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.measuring import machine
from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load, repeat
from loadtests.measuring.database import PostgresProcessor, measured_database
from loadtests.measuring.http_stream import request
from loadtests.measuring.results import RESULTS, write_result
from loadtests.measuring.servers import headrace_server, write_manifest

_GRAPHS = Path(__file__).parent / "growth" / "graphs.py"
#: The part of a processor that is used when all goes well; the rest is for deploys and bursts.
_USED = 0.6
#: Connections of a process beside its pool: lease and notices.
_BESIDE_POOL = 2
_ALLOWED_ERROR = 0.2
_GIB = 2**30


@dataclass(frozen=True)
class Constants:
    """Of one run that stores three checkpoints, on the machine that the results describe.

    ``--measure`` measures the first two. The others are defaults.
    """

    python_ms: float
    postgres_ms: float
    #: Bytes of Postgres's log, and bytes that stay.
    wal_bytes: float
    stored_bytes: float
    #: How long a connection of the pool is held.
    connection_ms: float = 1.0
    #: Python for 1,000 tokens that are streamed.
    python_ms_per_1000_tokens: float = 60.0
    process_mib: float = 150.0
    run_kib: float = 80.0
    #: Runs that one process executes at once at most (``worker.max_concurrent_runs``).
    runs_at_once: int = 1000


@dataclass(frozen=True)
class Demand:
    """What is asked for; tokens are those that clients follow."""

    runs_per_second: float
    seconds_per_run: float = 1.0
    tokens_per_run: float = 0.0
    days_kept: float = 7.0
    processes_per_pod: int = 2


@dataclass(frozen=True)
class Need:
    """What a demand needs; whole processes and connections, the rest as it comes."""

    runs_in_flight: float
    server_cores: float
    processes: int
    pods: int
    pool_per_process: int
    connections: int
    server_gib: float
    postgres_cores: float
    wal_mb_per_second: float
    stored_gb: float


def need(demand: Demand, constants: Constants) -> Need:
    """
    Cores are those that must be there: they are busy for 60 %.
    """
    rate = demand.runs_per_second
    python = constants.python_ms
    python += demand.tokens_per_run / 1000 * constants.python_ms_per_1000_tokens
    cores = rate * python / 1000 / _USED
    in_flight = rate * demand.seconds_per_run
    processes = max(1, math.ceil(cores), math.ceil(in_flight / constants.runs_at_once / _USED))
    busy = rate * constants.connection_ms / 1000 / processes
    # Writer lanes and readers; twice what is busy on average, so that a burst need not wait.
    pool = max(4, math.ceil(2 * busy) + 3)
    return Need(
        runs_in_flight=in_flight,
        server_cores=cores,
        processes=processes,
        pods=math.ceil(processes / demand.processes_per_pod),
        pool_per_process=pool,
        connections=processes * (pool + _BESIDE_POOL),
        server_gib=(processes * constants.process_mib * 1024 + in_flight * constants.run_kib)
        * 1024
        / _GIB,
        postgres_cores=rate * constants.postgres_ms / 1000 / _USED,
        wal_mb_per_second=rate * constants.wal_bytes / 1e6,
        stored_gb=rate * constants.stored_bytes * 86400 * demand.days_kept / 1e9,
    )


def most_runs_per_second(cores: int, constants: Constants, client_ms: float = 0.0) -> float:
    """What so many cores serve at most, if server, Postgres and client share them."""
    return cores / (constants.python_ms + constants.postgres_ms + client_ms) * 1000


def read_constants(folder: Path = RESULTS) -> Constants:
    """:raises FileNotFoundError: nothing was measured yet."""
    found = json.loads((folder / "capacity.json").read_text())
    return Constants(**found["constants"])


def table(needs: Sequence[tuple[Demand, Need]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield (
        "| runs/s | in flight | server cores | processes | pods | pool | connections |"
        " Postgres cores | WAL MB/s | stored GB |"
    )
    yield "|---" * 10 + "|"
    for demand, found in needs:
        yield (
            f"| {demand.runs_per_second:,.0f} | {found.runs_in_flight:,.0f}"
            f" | {found.server_cores:,.1f} | {found.processes:,} | {found.pods:,}"
            f" | {found.pool_per_process} | {found.connections:,} | {found.postgres_cores:,.1f}"
            f" | {found.wal_mb_per_second:,.1f} | {found.stored_gb:,.0f} |"
        )


def measure(seconds: float) -> dict[str, Any]:
    """Constants at a quarter of the clients, and what all clients get beside what is predicted."""
    body = {"assistant_id": "messages_state", "input": {"messages": ["hello"]}}
    data = request("POST", "/runs/wait", {**body, "on_completion": "keep"})
    facts = machine.facts()
    with (
        measured_database(os.environ.get("DATABASE_URL")) as database,
        tempfile.TemporaryDirectory(prefix="headrace-capacity-") as name,
    ):
        folder = Path(name)
        manifest = write_manifest(folder, {"messages_state": f"{_GRAPHS}:messages_state"})
        database.analyze()
        postgres = PostgresProcessor(database)
        with headrace_server(database.url, manifest=manifest, folder=folder) as server:

            def cell(connections: int, seconds: float) -> dict[str, float]:
                load = Load(server.port, repeat(data, "run"), connections, seconds)
                with load_process(load) as process:
                    process.wait_begun()
                    before = server.cpu_seconds(), postgres.seconds() or 0.0
                    process.wait_ended()
                    after = server.cpu_seconds(), postgres.seconds() or 0.0
                    outcome = process.outcome()
                runs = outcome.good("run")
                if outcome.failed() or not runs:
                    raise RuntimeError(f"{runs} runs, {outcome.failed()} failed")
                return {
                    "runs_per_second": runs / outcome.seconds,
                    "python_ms": (after[0] - before[0]) / runs * 1000,
                    "postgres_ms": (after[1] - before[1]) / runs * 1000,
                    "client_ms": outcome.cpu_seconds / runs * 1000,
                }

            cell(8, min(2.0, seconds))
            few, many = cell(8, seconds), cell(32, seconds)
    constants = Constants(few["python_ms"], few["postgres_ms"], 8000, 10400)
    cores = os.cpu_count() or 1
    predicted = most_runs_per_second(cores, constants, few["client_ms"])
    return {
        "machine": facts,
        "constants": asdict(constants),
        "measured": ["python_ms", "postgres_ms"],
        "cores": cores,
        "few_clients": few,
        "many_clients": many,
        "predicted_runs_per_second": predicted,
        "error": predicted / many["runs_per_second"] - 1,
    }


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.capacity", description=__doc__)
    parser.add_argument("--runs-per-second", type=float, nargs="+", default=[1e2, 1e3, 1e4, 1e5])
    parser.add_argument("--seconds-per-run", type=float, default=1.0)
    parser.add_argument("--tokens-per-run", type=float, default=0.0)
    parser.add_argument("--days-kept", type=float, default=7.0)
    parser.add_argument("--processes-per-pod", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help="measure the constants first")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of capacity.json")
    options = parser.parse_args(arguments)
    error = 0.0
    if options.measure:
        found = measure(options.seconds)
        write_result("capacity", found, folder=options.results)
        error = found["error"]
        sys.stdout.write(
            f"predicted {found['predicted_runs_per_second']:.0f} runs/s, measured"
            f" {found['many_clients']['runs_per_second']:.0f}: {error:+.0%}\n"
        )
    constants = read_constants(options.results)
    demands = [
        Demand(
            rate,
            options.seconds_per_run,
            options.tokens_per_run,
            options.days_kept,
            options.processes_per_pod,
        )
        for rate in options.runs_per_second
    ]
    for line in table([(demand, need(demand, constants)) for demand in demands]):
        sys.stdout.write(f"{line}\n")
    return 1 if abs(error) > _ALLOWED_ERROR else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
