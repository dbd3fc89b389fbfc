"""``make attack``: every row of docs/attack.md; ends with 1 when anything was let through."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.attack.report import keep, summary, table, told
from tests.attack.rows.table import ROWS
from tests.attack.runner import Plan, attack, scratch_postgres

_RESULTS = Path("loadtests/results/attack.json")
_PAGE = Path("docs/attack.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__)
    parser.add_argument("--rows", default="", help="such as 1,2,7; all without it")
    parser.add_argument("--seconds", type=float, default=30.0, help="of attack in each row")
    parser.add_argument("--scale", type=float, default=1.0, help="of counts and sizes")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the servers' logs")
    parser.add_argument("--write", action="store_true", help=f"renew {_RESULTS} and {_PAGE}")
    given = parser.parse_args()
    numbers = [int(one) for one in given.rows.split(",") if one] or list(ROWS)
    # TERM ends it as Ctrl-C does: no server may be left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan(seconds=given.seconds, scale=given.scale, keep=given.keep)
    summaries = []
    with scratch_postgres() as postgres:
        for number in numbers:
            summaries.append(summary(attack(ROWS[number], plan, postgres)))
            print(told(summaries[-1]), flush=True)
    print(f"\n{table(summaries)}")
    if given.write:
        keep(summaries, _RESULTS, _PAGE)
    return 1 if any(one["let_through"] for one in summaries) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
