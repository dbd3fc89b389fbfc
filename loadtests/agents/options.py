"""What ``make agents`` measures: the usual form, and a short one that only shows that all works."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.agents.workload import Workload
from loadtests.measuring.results import RESULTS

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Options:
    """``levels``: agents at once, one level after the other. ``rounds``: beside the ceiling."""

    levels: tuple[int, ...]
    seconds: float
    rounds: int
    workload: Workload
    results: Path
    page: Path | None
    spy: Path | None = None
    processes: int = 2
    #: Whether a few agents come before all others, so that all code is loaded.
    warm: bool = True
    #: Agents of these rounds; None: as many as the machine carried.
    beside: int | None = None


def options_from(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.agents", description="Agents on headrace, more and more of them."
    )
    parser.add_argument("--short", action="store_true", help="a few agents, for a few seconds")
    parser.add_argument("--levels", default="10,20,30,40,50,60,80,100,140,200,400,800,2000")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, of each level")
    parser.add_argument("--rounds", type=int, default=3, help="beside the ceiling; 0: none")
    parser.add_argument("--beside", type=int, help="agents in these rounds; needed without levels")
    parser.add_argument("--tokens", type=int, default=Workload().tokens_per_answer)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--spy", type=Path, help="py-spy, for the parts of the server's time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if not given.levels and not given.beside:
        parser.error("without --levels, say with --beside how many agents there are")
    if given.short:
        return Options(
            levels=(5,),
            seconds=1.0,
            rounds=1,
            workload=Workload(20, first_token_seconds=0.05, token_seconds=0.005),
            results=given.results,
            page=None,
            warm=False,
        )
    return Options(
        levels=tuple(int(one) for one in given.levels.split(",") if one),
        seconds=given.seconds,
        rounds=given.rounds,
        workload=Workload(tokens_per_answer=given.tokens),
        results=given.results,
        page=PAGE if given.levels and given.results == RESULTS and PAGE.exists() else None,
        spy=given.spy,
        processes=given.processes,
        beside=given.beside,
    )
