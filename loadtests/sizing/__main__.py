"""``make sizing``: the vendor's row of sizes, on this machine: runs of one second at a rising rate.

The exit code is 1 when a run was lost or failed, or when no rate was kept up.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.measuring import machine
from loadtests.measuring.database import measured_database
from loadtests.measuring.results import RESULTS, write_result, write_section
from loadtests.measuring.servers import headrace_server, write_manifest
from loadtests.measuring.termination import stop_all_on_termination
from loadtests.sizing.levels import KINDS, Site, measure_rate, saturated
from loadtests.sizing.report import best_of, charts, level_line, lines, section
from loadtests.sizing.schedules import Schedule

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "performance.md"
#: Of each process, above the runs in flight: nothing waits in the queue for a place.
_RUNS_AT_ONCE = "2000"
_WARM_SECONDS = 2.0


@dataclass(frozen=True)
class Options:
    rates: tuple[float, ...]
    kinds: tuple[str, ...]
    seconds: float
    processes: int
    results: Path
    page: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    options = options_from(arguments)
    stop_all_on_termination()
    result: dict[str, Any] = {"machine": machine.facts(), "processes": options.processes}
    with (
        tempfile.TemporaryDirectory(prefix="headrace-sizing-") as name,
        measured_database(os.environ.get("DATABASE_URL")) as database,
        headrace_server(
            database.url,
            manifest=write_manifest(
                Path(name), {"work": f"{_ROOT / 'loadtests' / 'sizing' / 'graph.py'}:builder"}
            ),
            folder=Path(name),
            processes=options.processes,
            settings={"HEADRACE_WORKER__MAX_CONCURRENT_RUNS": _RUNS_AT_ONCE},
        ) as server,
    ):
        result["postgres"] = database.facts()
        site = Site(server, database)
        measure_rate(site, Schedule(options.rates[0], reads=options.rates[0]), _WARM_SECONDS)
        database.analyze()
        result["levels"] = {kind: list(_levels(site, kind, options)) for kind in options.kinds}
    for line in lines(result):
        _say(line)
    write_result("sizing", result, folder=options.results)
    if options.page is not None:
        for file, chart in charts(result).items():
            (options.page.parent / file).write_text(chart)
        write_section(options.page, "sizing", section(result))
    return 0 if all(_is_sound(levels) for levels in result["levels"].values()) else 1


def options_from(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m loadtests.sizing", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a low rate, for two seconds")
    parser.add_argument("--rates", default="50,100,150,200,250,300,350,400,500")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, of each rate")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if given.short:
        return Options((10.0,), tuple(KINDS), 2.0, 1, given.results, None)
    return Options(
        rates=tuple(float(one) for one in given.rates.split(",")),
        kinds=tuple(given.kinds.split(",")),
        seconds=given.seconds,
        processes=given.processes,
        results=given.results,
        page=_PAGE if given.results == RESULTS and _PAGE.exists() else None,
    )


def _levels(site: Site, kind: str, options: Options) -> Iterator[dict[str, Any]]:
    """Until a rate saturates the machine."""
    how, reads = KINDS[kind]
    for rate in options.rates:
        schedule = Schedule(rate, how=how, reads=rate if reads else 0.0)
        level = measure_rate(site, schedule, options.seconds)
        _say(level_line(kind, level))
        yield level
        if saturated(level):
            return


def _is_sound(levels: Sequence[dict[str, Any]]) -> bool:
    """Whether a rate was kept up, and every run of every rate has succeeded."""
    return best_of(levels) is not None and all(
        set(level["statuses"]) == {"success"} for level in levels
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
