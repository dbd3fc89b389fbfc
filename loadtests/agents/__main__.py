"""``make agents``: how many agents these processors carry, and what each part takes for them.

The exit code is 1 when tokens were lost, or when no level keeps the floors.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtests.agents.levels import (
    Site,
    carried,
    checkpoints_of_runs,
    largest_carried,
    measure_level,
    saturated,
)
from loadtests.agents.model_server import ROOT, model_server, model_settings
from loadtests.agents.options import Options, options_from
from loadtests.agents.profile import profiled
from loadtests.agents.report import charts, level_line, lines, section
from loadtests.measuring import machine
from loadtests.measuring.database import MeasuredDatabase, measured_database
from loadtests.measuring.figures import ratios, spread
from loadtests.measuring.results import write_result, write_section
from loadtests.measuring.servers import (
    ServerProcess,
    headrace_server,
    uvicorn_server,
    write_manifest,
)
from loadtests.measuring.termination import stop_all_on_termination

_WARM_AGENTS, _WARM_SECONDS = 4, 1.0
_PROFILED_SECONDS = 12
#: More than the agents of any level: nothing waits in the queue.
_RUNS_AT_ONCE = "4000"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    options = options_from(arguments)
    stop_all_on_termination()
    result: dict[str, Any] = {"machine": machine.facts(), "workload": _told(options)}
    with (
        tempfile.TemporaryDirectory(prefix="headrace-agents-") as name,
        measured_database(os.environ.get("DATABASE_URL")) as database,
        model_server(Path(name), options.workload) as model,
    ):
        result["postgres"] = database.facts()
        with headrace(database, model, Path(name), options.processes) as server:
            site = Site(server, model, database)
            _warm(site, options)
            database.analyze()
            result["levels"] = list(_levels(site, options))
            best = largest_carried(result["levels"])
            agents = options.beside or int((best or result["levels"][0])["agents"])
            if options.rounds:
                result |= _beside_ceiling(site, agents, options, Path(name))
            result["checkpoints_per_run"] = checkpoints_of_runs(database)
    for line in lines(result):
        _say(line)
    write_result("agents", result, folder=options.results)
    if options.page is not None:
        for file, chart in charts(result).items():
            (options.page.parent / file).write_text(chart)
        write_section(options.page, "agents", section(result))
    lost = any(level["faults"] for level in result["levels"])
    return 1 if lost or (options.levels and best is None) else 0


@contextmanager
def headrace(
    database: MeasuredDatabase, model: ServerProcess, folder: Path, processes: int
) -> Iterator[ServerProcess]:
    """headrace with the agent's graph and the fake model."""
    graph = ROOT / "loadtests" / "agents" / "graph.py"
    with headrace_server(
        database.url,
        manifest=write_manifest(folder, {"agent": f"{graph}:builder"}),
        folder=folder,
        processes=processes,
        settings={
            "HEADRACE_WORKER__MAX_CONCURRENT_RUNS": _RUNS_AT_ONCE,
            **model_settings(model),
        },
    ) as server:
        yield server


def _warm(site: Site, options: Options) -> None:
    if options.warm:
        measure_level(site, _WARM_AGENTS, options.workload, _WARM_SECONDS)


def _levels(site: Site, options: Options) -> Iterator[dict[str, Any]]:
    """Until one saturates the machine."""
    for agents in options.levels:
        level = measure_level(site, agents, options.workload, options.seconds)
        _say(level_line(level))
        yield level
        if saturated(level):
            return


def _beside_ceiling(site: Site, agents: int, options: Options, folder: Path) -> dict[str, Any]:
    """Rounds of headrace and of the plain app in turn; then the parts of their time."""
    with uvicorn_server(
        "plain",
        "loadtests.agents.plain:make_app",
        folder=folder,
        processes=options.processes,
        settings=model_settings(site.model),
    ) as plain:
        sites = {"headrace": site, "plain": Site(plain, site.model)}
        _warm(sites["plain"], options)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sites}
        for number in range(options.rounds):
            for name in sorted(sites, reverse=bool(number % 2)):
                level = measure_level(sites[name], agents, options.workload, options.seconds)
                _say(f"{name:9}{level_line(level)}")
                rounds[name].append(level)
        profile = {
            name: profiled(
                one.server,
                agents,
                options.workload,
                spy=options.spy,
                folder=folder,
                seconds=_PROFILED_SECONDS,
            )
            for name, one in sites.items()
            if options.spy is not None
        }
    return {"beside_ceiling": _compared(agents, rounds), "profile": profile}


def _compared(agents: int, rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    cost = {name: [_server_cost(level) for level in levels] for name, levels in rounds.items()}
    python = {
        name: [level["cpu_ms_per_1000_tokens"]["server"] for level in levels]
        for name, levels in rounds.items()
    }
    return {
        "agents": agents,
        "rounds": {name: list(levels) for name, levels in rounds.items()},
        "cpu_ms_per_1000_tokens": {name: spread(values) for name, values in cost.items()},
        "ratio": spread(ratios(cost["headrace"], cost["plain"])),
        "ratio_without_postgres": spread(ratios(python["headrace"], python["plain"])),
        "carried": {name: all(map(carried, levels)) for name, levels in rounds.items()},
    }


def _server_cost(level: Mapping[str, Any]) -> float:
    """Of the server and its Postgres."""
    cost = level["cpu_ms_per_1000_tokens"]
    return float(cost["server"]) + float(cost.get("postgres", 0.0))


def _told(options: Options) -> dict[str, Any]:
    workload = options.workload
    return {
        "processes": options.processes,
        "tokens_per_run": workload.tokens_per_run,
        "tokens_per_second_a_stream": 1 / workload.token_seconds,
        "run_seconds": round(workload.run_seconds, 2),
        "seconds_measured": options.seconds,
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
