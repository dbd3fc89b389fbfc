"""Contenders side by side: rounds in rotated order, and what comes of them.

A ratio is taken within each round, between cells of the same minute, and then the median over the
rounds: what disturbs the machine for a while disturbs both sides.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadtests.bench.cells import FIGURES, Bench, Sample
from loadtests.bench.contenders import Entrant
from loadtests.bench.options import Options
from loadtests.bench.workloads import WORKLOADS, Workload
from loadtests.measuring.figures import ratios, spread

OURS = "headrace"
#: Ratios of runs per second: ours to this contender's.
RATIOS = {
    "vs_upstream_pool": "upstream_pool",
    "vs_tutorial": "tutorial",
    "vs_memory": "memory",
}
#: The ratio of a lone run's p50.
LONE_RATIO = "lone_p50_vs_upstream"

_LEAST_RUNS = 3

#: Samples of one workload by contender, one for each round.
Samples = Mapping[str, Sequence[Sample]]
Say = Callable[[str], None]


async def rounds(
    bench: Bench,
    options: Options,
    entrants: Mapping[str, Entrant],
    workloads: Sequence[str],
    *,
    count: int,
    lone: bool = False,
    share: float = 1.0,
    say: Say,
) -> dict[str, Samples]:
    """Measure every workload with every contender ``count`` times.

    :param lone: one run at a time.
    :param share: of the runs that options and workload ask for.
    """
    found: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    names = list(entrants)
    for number in range(count):
        turn = number % len(names)
        for workload in (WORKLOADS[name] for name in workloads):
            say(f"round {number + 1}/{count}: {workload.name}{', one at a time' if lone else ''}")
            for name in names[turn:] + names[:turn]:
                sample = await bench.measure(
                    name,
                    entrants[name],
                    workload,
                    runs=runs_of(workload, options, lone=lone, share=share),
                    concurrency=1 if lone else options.concurrency,
                )
                found[workload.name][name].append(sample)
    return {workload: dict(samples) for workload, samples in found.items()}


def runs_of(workload: Workload, options: Options, *, lone: bool, share: float = 1.0) -> int:
    """Runs of one cell; at least some, and all that are under way at once."""
    if options.runs is not None:
        return options.runs
    wanted = (workload.lone_runs if lone else workload.runs) * options.runs_share * share
    return max(_LEAST_RUNS if lone else options.concurrency, round(wanted))


def ratios_of(samples: Samples) -> dict[str, list[float]]:
    """By name, ours to another's runs per second, round by round."""
    return {
        name: _ratios(samples, other, "runs_per_second")
        for name, other in RATIOS.items()
        if OURS in samples and other in samples
    }


def lone_ratios_of(samples: Samples) -> dict[str, list[float]]:
    """Ours to upstream's p50, one run at a time, round by round."""
    other = RATIOS["vs_upstream_pool"]
    if OURS not in samples or other not in samples:
        return {}
    return {LONE_RATIO: _ratios(samples, other, "p50_ms")}


def _ratios(samples: Samples, other: str, figure: str) -> list[float]:
    ours, theirs = ([getattr(one, figure) for one in samples[name]] for name in (OURS, other))
    return ratios(ours, theirs)


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Every figure of a contender as its spread over the rounds; None where it has none."""
    return {figure: _spread_of(figure, samples) for figure in FIGURES}


def _spread_of(figure: str, samples: Sequence[Sample]) -> dict[str, float] | None:
    values = [value for one in samples if (value := getattr(one, figure)) is not None]
    return spread(values) if values else None
