"""``make rolling``: restarts, and the table; ends with 1 when something was repeated or lost."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.postgres import Pair
from tests.rolling.measurement import RollingPlan, measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="make rolling", description=__doc__)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--longest", type=float, default=5.0, help="seconds of the longest step")
    parser.add_argument("--grace", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for logs and the ledger")
    given = parser.parse_args()
    plan = RollingPlan(
        restarts=given.restarts,
        clients=given.clients,
        longest=given.longest,
        grace=given.grace,
        seed=given.seed,
    )
    folder = given.keep or Path(tempfile.mkdtemp(prefix="rolling-"))
    (folder / "database").mkdir(parents=True)
    database = Pair(folder / "database", alone=True)
    database.start()
    try:
        figures = asyncio.run(measure(plan, database.url, folder))
    finally:
        database.stop()
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(figures.table())
    return 0 if figures.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
