"""``make alerts``: every alert is seen to fire by its fault, and to end; else this ends with 1."""

import argparse
import asyncio
import signal
import sys

from tests.alerts.faults import LONG, SHORT, Fault
from tests.alerts.load import Locust
from tests.alerts.runner import Outcome, ask_every_expression, observe, table
from tests.alerts.site import site


def main() -> int:
    parser = argparse.ArgumentParser(prog="make alerts", description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--faults", nargs="*", default=[], help="words of the faults' names")
    parser.add_argument("--rows", type=int, default=30_000)
    given = parser.parse_args()
    plan = [
        [one for one in stage if not given.faults or any(w in one.name for w in given.faults)]
        for stage in (SHORT if given.short else LONG)
    ]
    outcome = asyncio.run(_observe([stage for stage in plan if stage], given.rows))
    print(table(outcome))
    return 1 if outcome.missing or outcome.unhealthy or outcome.silent else 0


async def _observe(plan: list[list[Fault]], rows: int) -> Outcome:
    """TERM ends it as Ctrl-C does: no server may be left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    users = 4 if Locust.there() else 0
    async with site(rows=rows, table_rows=rows // 3, callers=4, locust_users=users) as ready:
        outcome = await observe(ready, plan, say=lambda line: print(line, flush=True))
        outcome.silent = await ask_every_expression(ready)
        return outcome


if __name__ == "__main__":
    sys.exit(main())
