"""What a tenant far above its limit costs another one: ``python -m loadtests.noisy``.

Two tenants ask one server for short runs, at random moments. The neighbour asks for a few a second.
The noisy tenant asks at its limit (``callers.requests_per_second``), then at ten times that, in
turns; what is above the limit gets 429. The neighbour's p95 beside the ten times is held against
the p95 beside the limit, round by round.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from loadtests.measuring import machine
from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load, Outcome
from loadtests.measuring.database import measured_database
from loadtests.measuring.figures import percentile, ratios, significant
from loadtests.measuring.results import RESULTS, write_result
from loadtests.measuring.servers import ServerProcess, headrace_server, plain_environment
from loadtests.noisy.clients import CONNECTIONS, RUN, at_random

MANIFEST = Path(__file__).parents[1] / "graphs" / "langgraph.json"
#: A burst and the start of the neighbour's client.
_BURST_SECONDS = 3.0
#: The neighbour's p95 may grow by so much.
FLOOR = 1.20


@dataclass(frozen=True)
class Plan:
    """
    :ivar limit: requests a second of one tenant in each process.
    :ivar times: how far the noisy tenant goes above it.
    :ivar neighbour: requests a second of the neighbour, in all.
    """

    rounds: int = 12
    seconds: float = 8.0
    limit: float = 20.0
    times: float = 10.0
    neighbour: float = 20.0
    processes: int = 2


@dataclass(frozen=True)
class Phase:
    neighbour: Outcome
    noisy: Outcome

    @property
    def p95_ms(self) -> float:
        return 1000 * percentile(self.neighbour.latencies.get(RUN, [0.0]), 0.95)

    def plain(self) -> dict[str, object]:
        return {
            "p95_ms": significant(self.p95_ms),
            "neighbour": _told(self.neighbour),
            "noisy": _told(self.noisy),
        }


def _told(outcome: Outcome) -> dict[str, object]:
    statuses = outcome.statuses.get(RUN, Counter())
    return {
        "per_second": significant(sum(statuses.values()) / outcome.seconds),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "broken": outcome.broken,
    }


def phase(server: ServerProcess, plan: Plan, keys: Sequence[str], per_second: float) -> Phase:
    """Both tenants, the noisy one with so many requests a second in all."""
    pace = partial(at_random, key=keys[0], seconds=CONNECTIONS / per_second)
    seconds = _BURST_SECONDS + plan.seconds
    noisy = Load(server.port, pace, connections=CONNECTIONS, seconds=seconds)
    calm = partial(at_random, key=keys[1], seconds=4 / plan.neighbour)
    neighbour = Load(server.port, calm, connections=4, seconds=plan.seconds)
    with ExitStack() as stack:
        # The machine of the noisy tenant would be another one.
        much = stack.enter_context(load_process(noisy, idle=True))
        much.wait_begun()
        # What a tenant has saved up for a burst is spent then.
        time.sleep(_BURST_SECONDS)
        little = stack.enter_context(load_process(neighbour))
        little.wait_begun()
        little.wait_ended()
        much.wait_ended()
        return Phase(little.outcome(), much.outcome())


def new_key(database_url: str, tenant: str) -> str:
    """A key of the tenant, made by the command."""
    command = [sys.executable, "-m", "headrace", "keys", "create", f"--tenant={tenant}", "--json"]
    environment = plain_environment(DATABASE_URL=database_url)
    made = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=True
    )
    return str(json.loads(made.stdout)["key"])


def measure(plan: Plan, database_url: str, folder: Path) -> list[tuple[Phase, Phase]]:
    """For each round: beside the limit, and beside many times that."""
    settings = {
        "HEADRACE_AUTH": "required",
        "HEADRACE_CALLERS__REQUESTS_PER_SECOND": f"{plan.limit:g}",
        "HEADRACE_CALLERS__BURST_SECONDS": "1",
    }
    allowed = plan.limit * plan.processes
    found = []
    with headrace_server(
        database_url,
        manifest=MANIFEST,
        folder=folder,
        processes=plan.processes,
        settings=settings,
    ) as server:
        keys = [new_key(database_url, tenant) for tenant in ("noisy", "quiet")]
        phase(server, plan, keys, allowed)
        for number in range(plan.rounds):
            order = [allowed, plan.times * allowed]
            # What comes second may find a warmer server.
            phases = [phase(server, plan, keys, one) for one in order[:: 1 - 2 * (number % 2)]]
            found.append((phases[number % 2], phases[1 - number % 2]))
    return found


def run(plan: Plan, *, results: Path = RESULTS) -> int:
    """The whole measurement; the exit code."""
    facts = machine.facts()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-noisy-") as folder,
        measured_database(os.environ.get("DATABASE_URL")) as database,
    ):
        rounds = measure(plan, database.url, Path(folder))
    grown = ratios([one[1].p95_ms for one in rounds], [one[0].p95_ms for one in rounds])
    figure = median(grown)
    path = write_result(
        "noisy",
        {
            "machine": facts,
            "plan": {name: getattr(plan, name) for name in plan.__dataclass_fields__},
            "rounds": [
                {"at_limit": at_limit.plain(), "above": above.plain(), "ratio": significant(ratio)}
                for (at_limit, above), ratio in zip(rounds, grown, strict=True)
            ],
            "ratio": significant(figure),
            "floor": FLOOR,
        },
        folder=results,
    )
    lines = [
        f"p95 {at_limit.p95_ms:6.1f} ms beside the limit, {above.p95_ms:6.1f} ms beside"
        f" {plan.times:g} times of it: {ratio:.2f}"
        f" ({_told(above.noisy)['statuses']})"
        for (at_limit, above), ratio in zip(rounds, grown, strict=True)
    ]
    verdict = "reached" if figure <= FLOOR else "missed"
    lines += [f"median {figure:.2f}, floor {FLOOR}: {verdict}", f"results: {path}", ""]
    sys.stdout.write("\n".join(lines))
    return int(figure > FLOOR)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.noisy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--limit", type=float, default=Plan.limit)
    parser.add_argument("--times", type=float, default=Plan.times)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    plan = Plan(rounds=given.rounds, seconds=given.seconds, limit=given.limit, times=given.times)
    sys.exit(run(plan, results=given.results))


if __name__ == "__main__":
    main()
