"""The comparison once more, with a database that is farther away and has a slower disk.

The round trip is put in between by the proxy, the commit's share by Postgres itself; both are then
measured, so that the results say what was really there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.bench.cells import Bench
from loadtests.bench.comparison import Samples, Say, rounds
from loadtests.bench.contenders import Entrant
from loadtests.bench.gauge import Gauge
from loadtests.bench.options import Options
from loadtests.bench.way import proxy, way
from loadtests.measuring.database import MeasuredDatabase

ROUND_TRIP_MS = 2.0
COMMIT_MS = 5.0
#: Each run takes several times as long.
_SHARE = 0.15
_LONE_SHARE = 0.25


class NotSlow(Exception):
    """What was put in between is not there: the figures would claim what they do not say."""


@dataclass(frozen=True)
class SlowDatabase:
    """``way`` is as measured, in milliseconds."""

    way: Mapping[str, float]
    throughput: Mapping[str, Samples]
    lone: Mapping[str, Samples]


async def compare_slow(
    database: MeasuredDatabase,
    gauge: Gauge,
    options: Options,
    entrants: Mapping[str, Entrant],
    *,
    say: Say,
) -> SlowDatabase:
    """Only contenders with a database are worth it; the others do not change.

    :raises NotSlow: the server takes no ``commit_delay``, or does not wait (its ``fsync`` is off).
    """
    database.set_commit_delay(round(COMMIT_MS * 1000))
    try:
        async with proxy(database, delay_ms=ROUND_TRIP_MS / 2) as slow:
            measured = await way(slow.url)
            _require(measured)
            bench = Bench(database, gauge, url=slow.url)

            async def compare(*, lone: bool) -> dict[str, Samples]:
                return await rounds(
                    bench,
                    options,
                    entrants,
                    options.further_workloads,
                    count=options.slow_rounds,
                    lone=lone,
                    share=_LONE_SHARE if lone else _SHARE,
                    say=say,
                )

            return SlowDatabase(
                way=measured,
                throughput=await compare(lone=False),
                lone=await compare(lone=True),
            )
    finally:
        database.set_commit_delay(0)


def _require(measured: Mapping[str, float]) -> None:
    """A timer may be a little early; what the way takes anyway comes on top."""
    trip, commit = measured["round_trip_ms"], measured["commit_ms"]
    if trip < 0.9 * ROUND_TRIP_MS or commit < 0.9 * COMMIT_MS:
        raise NotSlow(
            f"A round trip of {ROUND_TRIP_MS:g} ms and a commit of {COMMIT_MS:g} ms were put in"
            f" between, but they take {trip:.1f} and {commit:.1f} ms."
        )
