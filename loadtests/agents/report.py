"""The agents' figures as lines for a terminal, a section of a page, and charts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtests.agents.levels import TARGETS, largest_carried
from loadtests.agents.parts import shares_told
from loadtests.agents.visitors import BETWEEN, DELAY, FIRST, GAP, START, TO_FIRST
from loadtests.measuring.charts import Line, Lines
from loadtests.measuring.charts import lines as line_chart
from loadtests.measuring.figures import Judged, figure, judged_lines, spread

#: Of the headline.
WANTED_AGENTS = 2000
_PARTS = ("server", "postgres", "model", "client")
_LABELS = {
    FIRST: "first token of an answer: from the model's write to the client's read",
    GAP: "between two tokens: beyond the model's own gap",
    DELAY: "any token: from the model's write to the client's read",
    TO_FIRST: "first token of a run: from the request, without the model's time",
    START: "from the request for a run to the request to the model",
    BETWEEN: "from an answer's last token to the next request to the model, without the tool",
}


def level_line(level: Mapping[str, Any]) -> str:
    """One level on one line."""
    times, cores = level["milliseconds"], level["cores"]
    told = " ".join(f"{part} {cores[part]:.2f}" for part in _PARTS if part in cores)
    faults = f" faults {level['faults']}" if level["faults"] else ""
    first, gap = times.get(TO_FIRST, {}), times.get(GAP, {})
    return (
        f"{level['agents']:5} agents {level['tokens_per_second']:7.0f} tokens/s"
        f" (pace {level['pace']:.2f}): first token p50 {first.get('p50', 0):.1f}"
        f" p99 {first.get('p99', 0):.1f} ms, gap p99 {gap.get('p99', 0):.1f} ms;"
        f" cores {told} (others {level['other_cores']:.2f});"
        f" {level['rss_bytes_per_run'] / 1024:.0f} KB a run{faults}"
    )


def extrapolated(level: Mapping[str, Any], agents: int = WANTED_AGENTS) -> dict[str, float]:
    """Cores of each part for so many agents, if each takes what it takes at this level."""
    share = agents / level["agents"]
    return {part: round(cores * share, 1) for part, cores in level["cores"].items()}


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """For the terminal, after the levels."""
    best = largest_carried(result["levels"])
    yield f"checkpoints of each run that succeeded: {result['checkpoints_per_run']}"
    if best is None and result["levels"]:
        yield "no level keeps the floors"
    if best is not None:
        yield f"within the floors: {best['agents']} agents"
        yield from judged_lines(_judged(best))
        for name, label in _LABELS.items():
            told = ", ".join(f"{key} {value:g}" for key, value in _times(best, name).items())
            yield f"  {label}: {told} ms"
        yield f"{WANTED_AGENTS:,} agents would take {_cores_told(best)}"
    if beside := result.get("beside_ceiling"):
        cost, ratio = beside["cpu_ms_per_1000_tokens"], beside["ratio"]
        yield (
            f"{beside['agents']} agents, processor ms per 1,000 tokens: headrace and Postgres"
            f" {cost['headrace']['median']:g}, the plain app {cost['plain']['median']:g};"
            f" ratio {ratio['median']:g} ({ratio['min']:g} to {ratio['max']:g}), without Postgres"
            f" {beside['ratio_without_postgres']['median']:g}"
        )
    for name, found in result.get("profile", {}).items():
        yield f"parts of {name}'s Python:"
        yield from (f"  {line}" for line in shares_told(found))


def section(result: Mapping[str, Any]) -> list[str]:
    """Markdown for the page of figures."""
    best = largest_carried(result["levels"])
    workload = result["workload"]
    told = [
        f"An agent asks its model four times and calls a tool three times. The fake model sends"
        f" {workload['tokens_per_second_a_stream']:.0f} tokens a second,"
        f" {workload['tokens_per_run']} in a run of {workload['run_seconds']:.0f} s."
        " A run makes 15 checkpoints. The client"
        f" reads `runs/stream` with `messages-tuple` and `values`. headrace has"
        f" {workload['processes']} processes. Milliseconds are p99; cores are those of each part.",
        "",
        "The first token of a run counts from the sending of its request, without the model's time;"
        " that of an answer, from the model's write.",
        "",
        "| agents | tokens/s | first token of a run | first token of an answer | added gap |"
        " headrace | Postgres | model | client | KB a run | connections |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| *floor / goal* | | {' | '.join(_bounds(name) for name in TARGETS)} | | | | | | |",
        *(_row(level) for level in result["levels"]),
        "",
    ]
    if best is not None:
        told += _best_told(best)
    if beside := result.get("beside_ceiling"):
        told += ["", _ceiling_told(beside)]
    if profile := result.get("profile"):
        told += ["", *_profile_table(profile)]
    return told


def charts(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG documents by file name."""
    levels = result["levels"]
    times = [
        Line(label, [(one["agents"], _times(one, name)["p99"]) for one in levels])
        for name, label in (
            (TO_FIRST, "first token of a run"),
            (FIRST, "first token of an answer"),
            (GAP, "between tokens"),
        )
    ]
    cores = [
        Line(part, [(one["agents"], one["cores"][part]) for one in levels])
        for part in _PARTS
        if all(part in one["cores"] for one in levels)
    ]
    said = f"Agents that stream at once, {result['workload']['processes']} processes"
    panels = [
        Lines("added time, p99", times, "agents", "milliseconds"),
        Lines("processor", cores, "agents", "cores"),
    ]
    return {"agents.svg": line_chart(said, panels)}


def _judged(level: Mapping[str, Any]) -> list[Judged]:
    labels = {
        TO_FIRST: "added to the first token of a run, from its request, p99 ms",
        FIRST: "added to the first token of an answer, p99 ms",
        GAP: "added between tokens, p99 ms",
    }
    return [
        Judged(labels[name], spread([_times(level, name)["p99"]]), target)
        for name, target in TARGETS.items()
    ]


def _times(level: Mapping[str, Any], name: str) -> Mapping[str, float]:
    found: Mapping[str, float] = level["milliseconds"].get(
        name, {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    )
    return found


def _bounds(name: str) -> str:
    target = TARGETS[name]
    return f"*{target.floor:g} / {target.goal:g}*"


def _cores_told(level: Mapping[str, Any]) -> str:
    wanted = extrapolated(level)
    names = {
        "server": "headrace",
        "postgres": "Postgres",
        "model": "the model",
        "client": "clients",
    }
    told = [f"{wanted[part]:g} cores for {names[part]}" for part in _PARTS if part in wanted]
    return ", ".join(told)


def _row(level: Mapping[str, Any]) -> str:
    cores = level["cores"]
    cells = [
        f"{level['agents']:,}",
        f"{level['tokens_per_second']:,.0f}",
        *(figure(_times(level, name)["p99"]) for name in TARGETS),
        *(figure(cores.get(part, 0.0)) for part in _PARTS),
        f"{level['rss_bytes_per_run'] / 1024:,.0f}",
        str(level["connections"]),
    ]
    return f"| {' | '.join(cells)} |"


def _best_told(best: Mapping[str, Any]) -> list[str]:
    cost = best["cpu_ms_per_1000_tokens"]
    start, first = _times(best, START), _times(best, TO_FIRST)
    return [
        f"Within the floors: {best['agents']:,} agents. There 1,000 tokens take"
        f" {cost['server']:.0f} ms of processor time in headrace, {cost['postgres']:.0f} in"
        f" Postgres, {cost['model']:.0f} in the fake model and {cost['client']:.0f} in the client."
        f" From the request for a run to the request to the model it takes {start['p50']:.1f} ms"
        f" (p99 {start['p99']:.1f}); headrace adds {first['p50']:.1f} ms (p99 {first['p99']:.1f})"
        f" to the first token of a run in all.",
        "",
        f"{WANTED_AGENTS:,} agents would take {_cores_told(best)}: each process carries"
        " its own streams, so they add up.",
    ]


def _ceiling_told(beside: Mapping[str, Any]) -> str:
    cost, ratio = beside["cpu_ms_per_1000_tokens"], beside["ratio"]
    return (
        f"The ceiling is this graph in a FastAPI app without saver and books. With"
        f" {beside['agents']:,} agents, 1,000 tokens take {cost['headrace']['median']:.0f} ms of"
        f" processor time with headrace and its Postgres, and {cost['plain']['median']:.0f} with"
        f" the ceiling: {ratio['median']:.2f} times as much ({ratio['min']:.2f} to"
        f" {ratio['max']:.2f}), {beside['ratio_without_postgres']['median']:.2f} without Postgres."
    )


def _profile_table(profile: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    names = list(profile)
    parts = sorted(
        {part for found in profile.values() for part in found},
        key=lambda part: -profile[names[0]].get(part, 0.0),
    )
    rows = [
        f"| {part} | " + " | ".join(f"{profile[name].get(part, 0.0):.1%}" for name in names) + " |"
        for part in parts
        if any(profile[name].get(part, 0.0) >= 0.01 for name in names)
    ]
    return [
        f"| where Python's time goes | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
        *rows,
    ]
