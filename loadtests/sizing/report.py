"""The sizing row as lines, a section of a page, and a chart."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from loadtests.measuring.charts import Line, Lines
from loadtests.measuring.charts import lines as line_chart
from loadtests.measuring.figures import Judged, figure, judged_lines, spread
from loadtests.sizing.levels import ADDED, kept_up

#: The vendor's row: runs of one second that are made each second, and its processors, of which
#: Redis is not one. https://docs.langchain.com/langsmith/agent-server-scale
VENDOR_RATE = 500.0
VENDOR_CORES = {"background": 20, "background_and_reads": 33}
_LABELS = {
    "background": "runs in the background",
    "background_and_reads": "runs and as many reads",
    "wait": "`runs/wait`",
}
#: A pod has one processor, and is full at this part of it.
_FULL = 0.7


def level_line(kind: str, level: Mapping[str, Any]) -> str:
    """One rate on one line."""
    cores, added = level["cores"], level["added_milliseconds"]
    told = " ".join(f"{part} {used:.2f}" for part, used in cores.items())
    return (
        f"{kind:21}{level['rate']:6g} asked: {level['runs_per_second']:6.1f} runs/s"
        f" {level['reads_per_second']:6.1f} reads/s, {level['in_flight']} in flight, added p50"
        f" {added['p50']:.1f} p99 {added['p99']:.1f} ms; cores {told};"
        f" {level['statuses']} {level['failed']} failed"
    )


def best_of(levels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The highest rate that was kept up; None where none was."""
    found = [level for level in levels if kept_up(level)]
    return max(found, key=lambda level: float(level["rate"])) if found else None


def shown_of(levels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The level whose figures are told: the best one, else the one with the most runs a second."""
    return best_of(levels) or max(levels, key=lambda level: float(level["runs_per_second"]))


def whole_row(level: Mapping[str, Any], processes: int) -> dict[str, float]:
    """What the vendor's rate would take, if each run takes what it takes at this level."""
    share = VENDOR_RATE / level["runs_per_second"]
    cores = {part: level["cores"][part] * share for part in ("server", "postgres")}
    pods = ceil(cores["server"] / _FULL)
    return {
        "server_cores": round(cores["server"], 2),
        "postgres_cores": round(cores["postgres"], 2),
        "cores": round(sum(cores.values()), 2),
        "pods": pods,
        "connections": ceil(level["connections"] / processes) * pods,
    }


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """For the terminal, after the levels."""
    for kind, levels in result["levels"].items():
        best, kept = shown_of(levels), best_of(levels) is not None
        added = spread([best["added_milliseconds"]["p99"]])
        told = "kept up" if kept else "at most, and no rate was kept up"
        yield f"{kind}: {best['runs_per_second']:g} runs a second {told}"
        yield from judged_lines([Judged("added to a run, p99 ms", added, ADDED)])
        row = whole_row(best, result["processes"])
        vendor = VENDOR_CORES.get(kind)
        beside = f"; the vendor's table has {vendor} and Redis" if vendor else ""
        yield f"  {_row_told(row)}{beside}"


def section(result: Mapping[str, Any]) -> list[str]:
    """Markdown for the page of figures."""
    told = [
        "LangGraph Platform's table of sizes asks 20 processors and a Redis for 500 runs of one"
        " second that are made each second (6 API and 10 queue pods of one processor, and 4 for"
        " Postgres), and 33 with 500 reads a second beside. Below is this load at the highest rate"
        " that headrace kept up here: every run succeeded, and p99 was at most"
        f" {ADDED.floor:g} ms more than the second of a run. Rows with a star did not keep that up;"
        " they have the most runs a second.",
        "",
        "| | runs/s | reads/s | in flight | added p50, p99 ms | headrace | Postgres | client |"
        " for 500 runs/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, levels in result["levels"].items():
        star = "" if best_of(levels) else " \\*"
        told.append(_table_row(_LABELS[kind] + star, shown_of(levels), result["processes"]))
    told += ["", *_rows_told(result)]
    return told


def charts(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG documents by file name."""
    levels = result["levels"]
    added = [
        Line(
            kind.replace("_", " "),
            [(one["rate"], one["added_milliseconds"]["p99"]) for one in found],
        )
        for kind, found in levels.items()
    ]
    cores = [
        Line(kind.replace("_", " "), [(one["rate"], _cores(one)) for one in found])
        for kind, found in levels.items()
    ]
    panels = [
        Lines("added to a run of one second, p99", added, "runs/s asked", "milliseconds"),
        Lines("headrace and Postgres", cores, "runs/s asked", "cores"),
    ]
    said = f"Runs of one second, {result['processes']} processes"
    return {"sizing.svg": line_chart(said, panels)}


def _cores(level: Mapping[str, Any]) -> float:
    return float(level["cores"]["server"]) + float(level["cores"]["postgres"])


def _row_told(row: Mapping[str, float]) -> str:
    return (
        f"{VENDOR_RATE:g} a second would take {row['cores']:g} cores ({row['server_cores']:g} and"
        f" {row['postgres_cores']:g} for Postgres): {row['pods']:g} pods of one processor,"
        f" {_FULL:.0%} full, with {row['connections']:g} connections"
    )


def _table_row(label: str, level: Mapping[str, Any], processes: int) -> str:
    row, added, cores = whole_row(level, processes), level["added_milliseconds"], level["cores"]
    cells = [
        label,
        figure(level["runs_per_second"]),
        figure(level["reads_per_second"]),
        f"{level['in_flight']:,}",
        f"{figure(added['p50'])}, {figure(added['p99'])}",
        *(figure(cores[part]) for part in ("server", "postgres", "client")),
        f"{row['cores']:g} cores",
    ]
    return f"| {' | '.join(cells)} |"


def _rows_told(result: Mapping[str, Any]) -> Iterator[str]:
    for kind, vendor in VENDOR_CORES.items():
        if levels := result["levels"].get(kind):
            row = whole_row(shown_of(levels), result["processes"])
            yield f"- {_LABELS[kind]}: {_row_told(row)}. The table has {vendor}, and Redis."
