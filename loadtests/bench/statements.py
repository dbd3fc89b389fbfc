"""Statements, round trips and transactions of a run, counted on the wire.

The counting proxy costs time, so this is a pass of its own, from which no time is taken. With many
runs at once its batches are somewhat larger than those of the timed rounds.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from loadtests.bench.comparison import Say, runs_of
from loadtests.bench.contenders import Entrant
from loadtests.bench.drive import Driver
from loadtests.bench.gauge import Gauge
from loadtests.bench.options import Options
from loadtests.bench.way import ProxyProcess, proxy
from loadtests.bench.workloads import WORKLOADS, Workload
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import significant

#: Of the runs of a timed cell.
_SHARE = 0.25


async def count_statements(
    database: MeasuredDatabase,
    gauge: Gauge,
    options: Options,
    entrants: Mapping[str, Entrant],
    *,
    say: Say,
) -> dict[str, dict[str, Any]]:
    """By workload and contender: what a run takes ``alone`` and ``concurrent``."""
    found: dict[str, dict[str, Any]] = {}
    async with proxy(database, counting=True) as counting:
        for workload in (WORKLOADS[name] for name in options.further_workloads):
            say(f"counting statements: {workload.name}")
            found[workload.name] = {
                name: {
                    "alone": await _count(counting, gauge, entrant, workload, options, lone=True),
                    "concurrent": await _count(
                        counting, gauge, entrant, workload, options, lone=False
                    ),
                }
                for name, entrant in entrants.items()
            }
    return found


async def _count(
    counting: ProxyProcess,
    gauge: Gauge,
    entrant: Entrant,
    workload: Workload,
    options: Options,
    *,
    lone: bool,
) -> dict[str, float]:
    """Each count per run, of runs after the first ones."""
    await gauge.empty()
    concurrency = 1 if lone else options.concurrency
    runs = runs_of(workload, options, lone=lone, share=_SHARE)
    async with entrant.open(counting.url) as contender:
        driver = Driver(contender, workload)
        await driver.prepare(concurrency)
        await driver.drive(2 * concurrency, concurrency)
        before = await counting.counts()
        await driver.drive(runs, concurrency)
        after = await counting.counts()
    earlier = asdict(before)
    return {
        name: significant((value - earlier[name]) / runs) for name, value in asdict(after).items()
    }
