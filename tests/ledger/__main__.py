"""``make ledger``: kill processes at random, and see what was done twice."""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path

from loadtests.measuring.database import measured_database
from tests.ledger.report import table, verdicts
from tests.ledger.site import Plan, killed_runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="make ledger", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills, about")
    parser.add_argument("--runs", type=int, default=9, help="at once, a third of each durability")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    plan = Plan(
        kills=given.kills,
        seed=secrets.randbelow(10**6) if given.seed is None else given.seed,
        every_seconds=given.every,
        runs=given.runs,
    )
    with (
        tempfile.TemporaryDirectory(prefix="headrace-ledger-") as folder,
        measured_database(os.environ.get("DATABASE_URL")) as database,
    ):
        outcome = asyncio.run(killed_runs(plan, Path(folder), database.url))
    print(table(outcome))
    return int(any(one.violations for one in verdicts(outcome).values()))


if __name__ == "__main__":
    sys.exit(main())
