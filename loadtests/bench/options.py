"""What is measured, how often, with whom. Read from BENCH_* in the environment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.bench.workloads import WORKLOADS
from loadtests.measuring import variables
from loadtests.measuring.results import RESULTS

#: What the bench consists of, in the order in which it is done.
PARTS = (
    "throughput",
    "lone",
    "statements",
    "lanes",
    "large_values",
    "slow_database",
    "growth",
)


@dataclass(frozen=True)
class Options:
    """``whole`` is False for everything that leaves something out of the comparison."""

    profile: str
    rounds: int
    #: Of lanes and large values, and of the slow database, where every run takes its time.
    side_rounds: int
    slow_rounds: int
    #: The share of a workload's own number of runs that is done at once, and alone.
    runs_share: float
    #: Runs of each cell whatever the workload; None: the workload's own number.
    runs: int | None
    concurrency: int
    #: Seconds for which small values are put, beside large ones and without them.
    large_values_seconds: float
    large_value_bytes: int
    lanes: tuple[int, ...]
    growth_turns: int
    #: Those with which statements are counted and the slow database is tried.
    further_workloads: tuple[str, ...] = tuple(WORKLOADS)
    parts: tuple[str, ...] = PARTS
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    contenders: tuple[str, ...] = ()
    results: Path = RESULTS
    whole: bool = True


PROFILES = {
    "full": Options(
        profile="full",
        rounds=5,
        side_rounds=3,
        slow_rounds=2,
        runs_share=1.0,
        runs=None,
        concurrency=32,
        large_values_seconds=2.5,
        large_value_bytes=20_000_000,
        lanes=(1, 2, 4, 10),
        growth_turns=550,
    ),
    # Is every figure there, and nothing lost? Not: how fast is it?
    "short": Options(
        profile="short",
        rounds=1,
        side_rounds=1,
        slow_rounds=1,
        runs_share=0.02,
        runs=None,
        concurrency=4,
        large_values_seconds=0.2,
        large_value_bytes=2_000_000,
        lanes=(1, 2),
        growth_turns=25,
        further_workloads=("trivial",),
        whole=False,
    ),
}


def options_from(environ: Mapping[str, str], contenders: Collection[str]) -> Options:
    """The profile that BENCH_PROFILE names, with what the other BENCH_* change.

    :param contenders: those that there are.
    :raises ValueError: with a sentence about the variable that cannot be.
    """
    profile = PROFILES[variables.choice(environ, "BENCH_PROFILE", PROFILES, "full")]
    default = replace(profile, contenders=tuple(contenders))
    found = replace(
        default,
        rounds=variables.count(environ, "BENCH_ROUNDS", default.rounds),
        side_rounds=variables.count(environ, "BENCH_ROUNDS", default.side_rounds),
        slow_rounds=variables.count(environ, "BENCH_ROUNDS", default.slow_rounds),
        runs=variables.count(environ, "BENCH_RUNS", None),
        concurrency=variables.count(environ, "BENCH_CONCURRENCY", default.concurrency),
        parts=variables.names(environ, "BENCH_ONLY", PARTS, PARTS),
        workloads=variables.names(environ, "BENCH_WORKLOADS", WORKLOADS, tuple(WORKLOADS)),
        contenders=variables.names(environ, "BENCH_CONTENDERS", contenders, tuple(contenders)),
        results=Path(environ.get("BENCH_RESULTS") or RESULTS),
    )
    same = ("parts", "workloads", "contenders", "concurrency")
    further = tuple(name for name in found.further_workloads if name in found.workloads)
    complete = all(getattr(found, field) == getattr(default, field) for field in same)
    return replace(found, further_workloads=further, whole=default.whole and complete)
