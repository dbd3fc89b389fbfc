"""``make chaos``: minutes of it, and the table; ends with 1 when a rule was violated."""

import argparse
import asyncio
import secrets
import signal
import sys
from pathlib import Path

from tests.chaos.report import table
from tests.chaos.runner import Outcome, Plan, run_chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--undisturbed", type=int, default=10_000)
    parser.add_argument("--faults", nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--lease", type=float, default=3.0, help="10 is the default of headrace")
    parser.add_argument("--asynchronous", action="store_true")
    parser.add_argument("--without", default="")
    parser.add_argument("--keep", type=Path, default=Path(".chaos"))
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    plan = Plan(
        seconds=given.seconds,
        seed=seed,
        pods=given.pods,
        clients=given.clients,
        undisturbed=given.undisturbed,
        faults=tuple(given.faults),
        kinds=tuple(given.kinds),
        lease_seconds=given.lease,
        settle_seconds=45.0 + 2 * given.lease,
        synchronous=not given.asynchronous,
        without=given.without,
    )
    outcome = asyncio.run(_until_told(plan, given.keep))
    print(table(outcome))
    if outcome.found:
        print(f"history and logs: {given.keep}")
    return 1 if outcome.found or outcome.unexpected else 0


async def _until_told(plan: Plan, keep: Path) -> Outcome:
    """TERM ends it as Ctrl-C does: no server may be left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_chaos(plan, keep=keep)


if __name__ == "__main__":
    sys.exit(main())
