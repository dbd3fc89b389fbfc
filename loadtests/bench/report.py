"""What came of it: a table on the terminal, JSON and a chart in files."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loadtests.bench import targets
from loadtests.bench.chart import chart
from loadtests.bench.options import Options
from loadtests.bench.workloads import WORKLOADS
from loadtests.measuring.figures import Target
from loadtests.measuring.results import write_result

_CHART = Path(__file__).parents[2] / "docs" / "checkpoint-engine.svg"

_COLUMNS = {
    "runs_per_second": "runs/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "client_cpu_ms_per_run": "client ms",
    "postgres_cpu_ms_per_run": "PG ms",
    "transactions_per_run": "trans.",
    "wal_bytes_per_run": "WAL B",
}

Result = Mapping[str, Any]


def write(result: Result, options: Options) -> None:
    """Only a whole comparison may replace the chart of the documentation."""
    path = write_result("checkpoint", result, folder=options.results)
    picture = _CHART if options.whole else options.results / _CHART.name
    picture.write_text(chart(result))
    sys.stdout.write("\n".join([*lines_of(result), f"results: {path}", f"chart: {picture}", ""]))
    sys.stdout.flush()


def lines_of(result: Result) -> Iterator[str]:
    """The result as it is printed."""
    postgres = result["postgres"]
    yield (
        f"Postgres {postgres['server_version']}, round trip {postgres['round_trip_ms']} ms, commit"
        f" {postgres['commit_ms']} ms, "
        + ", ".join(f"{name} {postgres[name]}" for name in ("fsync", "synchronous_commit"))
    )
    yield f"Medians over the rounds, least and greatest beside; targets: {targets.SAID}."
    yield from _comparison(result, "")
    if "lanes" in result:
        yield from ("", "lanes, trivial", *_table(result["lanes"]))
    yield from _large_values(result.get("large_values", {}))
    if "slow_database" in result:
        slow = result["slow_database"]
        way = slow["way"]
        said = f"round trip {way['round_trip_ms']} ms, commit {way['commit_ms']} ms: "
        yield from _comparison(slow, said)
    yield from _growth(result.get("growth", {}))


def _comparison(result: Result, said: str) -> Iterator[str]:
    """Each workload's contenders, one by one and side by side."""
    for name in WORKLOADS:
        found = result.get(name, {})
        for key, how in (("contenders", "at once"), ("lone", "one at a time")):
            if key in found:
                yield from ("", f"{said}{name}, {how}", *_table(found[key]))
        yield from _statements(found.get("statements", {}))
        for ratio, spread in found.get("ratios_spread", {}).items():
            # The targets were set for a database nearby.
            target = None if said else targets.RATIOS.get(name, {}).get(ratio)
            yield f"  {ratio:24}{_spread(spread):>24}{_against(spread['median'], target)}"
        if name == "trivial" and not said:
            yield from _transactions(found)


def _table(contenders: Mapping[str, Result]) -> Iterator[str]:
    yield f"  {'':16}" + "".join(f"{heading:>12}" for heading in _COLUMNS.values()) + "   noise"
    for name, figures in contenders.items():
        cells = (figures[key] for key in _COLUMNS)
        medians = "".join(f"{'-' if one is None else _figure(one['median']):>12}" for one in cells)
        speed = figures["runs_per_second"]
        yield f"  {name:16}{medians}   {_figure(speed['min'])} to {_figure(speed['max'])} runs/s"


def _statements(statements: Mapping[str, Result]) -> Iterator[str]:
    for name, counted in statements.items():
        alone, concurrent = counted["alone"], counted["concurrent"]
        yield f"  {name:16}" + ", ".join(
            f"{figure.replace('_', ' ')} {alone[figure]:g} alone {concurrent[figure]:g} at once"
            for figure in alone
        )


def _transactions(found: Result) -> Iterator[str]:
    for key, how, target in (
        ("lone", "alone", targets.LONE_TRANSACTIONS),
        ("contenders", "at once", targets.CONCURRENT_TRANSACTIONS),
    ):
        spread = found.get(key, {}).get("headrace", {}).get("transactions_per_run")
        if spread:
            label = f"transactions {how}"
            yield f"  {label:24}{_spread(spread):>24}{_against(spread['median'], target)}"


def _large_values(found: Mapping[str, Result]) -> Iterator[str]:
    if found:
        yield from ("", "p99 of a small put, quiet and beside large ones")
        yield f"  {'':16}{'quiet ms':>12}{'beside ms':>12}{'large puts':>12}{'ratio':>30}"
    for name, figures in found.items():
        medians = (
            figures[key]["median"] for key in ("quiet_p99_ms", "beside_large_p99_ms", "large_puts")
        )
        target = targets.LARGE_VALUES if name.startswith("lanes") else None
        yield (
            f"  {name:16}"
            + "".join(f"{_figure(one):>12}" for one in medians)
            + f"{_spread(figures['ratio']):>30}{_against(figures['ratio']['median'], target)}"
        )


def _growth(found: Mapping[str, Result | None]) -> Iterator[str]:
    if found:
        yield from ("", "bytes per turn, early and late in a conversation")
    for name, figures in found.items():
        if figures is None:
            yield f"  {name:34}this server was built without it"
            continue
        for figure, one in figures.items():
            target = targets.GROWTH if name == "chat" else None
            ratio = one["ratio"]
            against = "" if ratio is None else f"{ratio:>10.2f}{_against(ratio, target)}"
            what = figure.partition("_")[0]
            yield f"  {name:34}{what:6}{one['early']:>12,.0f}{one['late']:>12,.0f}{against}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['min']:.2f} to {spread['max']:.2f})"


def _against(value: float, target: Target | None) -> str:
    return "" if target is None else f"   {target.verdict(value):6} ({target})"
