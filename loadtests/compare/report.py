"""What came of it: a table on the terminal, JSON, a chart, and a section of the documentation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.compare.cells import FIGURES, HttpSample
from loadtests.compare.comparison import Compared, Samples
from loadtests.compare.contenders import CONTENDERS, HEADRACE
from loadtests.compare.options import CompareOptions
from loadtests.compare.targets import Bound, not_judged
from loadtests.compare.workloads import WORKLOADS
from loadtests.measuring.charts import NOT_DURABLE, OTHERS, OURS, Bar, Bars, bars
from loadtests.measuring.figures import Judged, figure, judged_lines, spread
from loadtests.measuring.results import write_result, write_section

_DOCS = Path(__file__).parents[2] / "docs"
_COLUMNS = {
    "per_second": "req/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "server_cpu_ms": "server ms",
    "postgres_cpu_ms": "PG ms",
    "client_cpu_ms": "client ms",
    "unanswered": "lost",
}
_CHARTED = ("wait", "stream", "second_turn", "long_thread", "threads", "state")

Figures = Mapping[str, Any]


def write(
    found: Compared,
    rows: Sequence[Judged],
    bound: Bound,
    options: CompareOptions,
    facts: Mapping[str, object],
) -> Iterator[str]:
    """Write the files and give the lines for the terminal.

    Only a whole comparison may replace what the documentation shows.
    """
    result = _result(found, rows, bound, options, facts)
    picture = chart(found, options)
    yield from lines_of(found, rows)
    path = write_result("compare", result, folder=options.results)
    yield f"results: {path}"
    drawn = (_DOCS if options.whole else options.results) / "compare.svg"
    drawn.write_text(picture)
    yield f"chart: {drawn}"
    if options.whole:
        section = list(page_lines(found, rows, bound, options, result))
        write_section(_DOCS / "performance.md", "compare", section)


def lines_of(found: Compared, rows: Sequence[Judged]) -> Iterator[str]:
    """The result as it is printed."""
    yield from _tables("", found.own)
    for peer, samples in found.peers.items():
        yield from _tables(f"beside {peer}: ", samples)
    yield ""
    yield from judged_lines(rows)
    yield from (f"not judged: {label}" for label in not_judged(rows))
    for name, reason in found.left_out.items():
        yield f"left out: {name}: {reason}"


def chart(found: Compared, options: CompareOptions) -> str:
    """Medians; a server of others stands where its ratio to headrace puts it."""
    panels = [
        Bars(WORKLOADS[name].title, shown)
        for name in _CHARTED
        if (shown := list(_bars(found, name)))
    ]
    return bars(
        f"Requests per second, {options.connections} connections, {options.processes} processes;"
        " line: least and greatest round",
        panels,
    )


def page_lines(
    found: Compared,
    rows: Sequence[Judged],
    bound: Bound,
    options: CompareOptions,
    result: Figures,
) -> Iterator[str]:
    """The section of the documentation, as Markdown."""
    machine, postgres = result["machine"], result["postgres"]
    yield (
        f"`make compare`: {options.processes} processes each, {options.connections} connections"
        f" in a closed loop, {options.rounds} rounds of {options.seconds:g} s in rotated order;"
        f" figures are medians. {machine['cores']} cores ({machine['cpu']}) for client, servers"
        f" and Postgres {postgres['server_version']} (fsync {postgres['fsync']}), tables"
        f" analyzed. A fixed Python loop took {machine['loop_milliseconds']} ms."
    )
    yield from ("", "![Requests per second of each contender](compare.svg)", "")
    yield "| | " + " | ".join(WORKLOADS[name].title for name in _CHARTED) + " |"
    yield "|---|" + "---|" * len(_CHARTED)
    for name, contender in CONTENDERS.items():
        cells = [_rate_of(found, workload, name) for workload in _CHARTED]
        if any(cells):
            shown = " | ".join("" if one is None else figure(one) for one in cells)
            yield f"| {contender.title} | {shown} |"
    yield ""
    yield (
        "A server of others was measured beside headrace alone; its figure is headrace's in the"
        " table, divided by the ratio of the two. A request for `POST /threads` to `no saver`"
        f" stores nothing. The bound for it is an empty route of headrace and a commit"
        f" ({bound.commit_ms} ms) shared by {bound.connections} connections."
    )
    yield from (
        "",
        "Agents that stream are not part of `make compare`. `make agents` measures them"
        " ([below](#agents-that-stream)).",
    )
    yield from (
        "",
        "| headrace | floor | goal | measured | least to greatest |",
        "|---|---|---|---|---|",
    )
    for row in rows:
        if row.target is not None:
            beyond = "" if row.target.goal is None else f"{row.target.goal:g}"
            low, high = figure(row.found["min"]), figure(row.found["max"])
            yield (
                f"| {row.label} | {row.target.floor:g} | {beyond} |"
                f" {figure(row.found['median'])} | {low} to {high} |"
            )
    yield from ("", "What each keeps, and does not:", "")
    for name in options.contenders:
        yield f"- {CONTENDERS[name].title}: {CONTENDERS[name].said}"
    for name, reason in found.left_out.items():
        yield f"- not measured here: {name} ({reason.splitlines()[0]})"


def _result(
    found: Compared,
    rows: Sequence[Judged],
    bound: Bound,
    options: CompareOptions,
    facts: Mapping[str, object],
) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(options).items() if name != "results"}
    return {
        **facts,
        "options": plain,
        "bound": asdict(bound),
        "own": _summaries(found.own),
        "peers": {name: _summaries(samples) for name, samples in found.peers.items()},
        "lone_p50_ms": {name: spread(values) for name, values in found.lone.items()},
        "statements": found.statements,
        "judged": [row.plain() for row in rows],
        "not_judged": not_judged(rows),
        "left_out": {name: reason.splitlines()[0] for name, reason in found.left_out.items()},
        "said": {name: CONTENDERS[name].said for name in options.contenders},
        "seconds": found.seconds,
    }


def _summaries(samples: Samples) -> dict[str, Any]:
    return {
        workload: {name: _summary(one) for name, one in by_name.items()}
        for workload, by_name in samples.items()
    }


def _summary(samples: Sequence[HttpSample]) -> dict[str, Any]:
    return {name: _spread_of(name, samples) for name in FIGURES}


def _spread_of(name: str, samples: Sequence[HttpSample]) -> dict[str, float] | None:
    values = [value for one in samples if (value := getattr(one, name)) is not None]
    return spread(values) if values else None


def _tables(said: str, samples: Samples) -> Iterator[str]:
    for workload, by_name in samples.items():
        yield from ("", f"{said}{WORKLOADS[workload].title}")
        yield f"  {'':16}" + "".join(f"{one:>11}" for one in _COLUMNS.values()) + "   noise"
        for name, one in by_name.items():
            summary = _summary(one)
            cells = (summary[key] for key in _COLUMNS)
            medians = "".join(
                f"{'-' if cell is None else figure(cell['median']):>11}" for cell in cells
            )
            speed = summary["per_second"]
            noise = f"{figure(speed['min'])} to {figure(speed['max'])} req/s"
            yield f"  {name:16}{medians}   {noise}"


def _bars(found: Compared, workload: str) -> Iterator[Bar]:
    for name, contender in CONTENDERS.items():
        rate = _rate_of(found, workload, name)
        if rate is None:
            continue
        samples = found.own.get(workload, {}).get(name)
        rates = [one.per_second for one in samples] if samples else [rate]
        beside = f"{figure(rate)}/s"
        if samples:
            cost = median(one.cpu_ms for one in samples)
            beside += f", {cost:.2g} ms CPU"
        others = OTHERS if contender.durable else NOT_DURABLE
        yield Bar(
            label=contender.title,
            value=rate,
            least=min(rates),
            greatest=max(rates),
            beside=beside,
            colour=OURS if name == HEADRACE else others,
            strong=name == HEADRACE,
        )


def _rate_of(found: Compared, workload: str, name: str) -> float | None:
    """The median rate, of a server of others by its ratio to headrace."""
    by_name = found.own.get(workload, {})
    if by_name.get(name):
        return median(one.per_second for one in by_name[name])
    beside = found.peers.get(name, {}).get(workload, {})
    theirs, ours = beside.get(name, ()), beside.get(HEADRACE, ())
    if not theirs or len(theirs) != len(ours):
        return None
    share = median(a.per_second / b.per_second for a, b in zip(theirs, ours, strict=True))
    base = by_name.get(HEADRACE) or ours
    return share * median(one.per_second for one in base)
