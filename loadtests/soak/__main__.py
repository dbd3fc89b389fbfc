"""A million requests of the mixed profile, and whether anything grows: ``make soak``.

It starts a Postgres (durability on, autovacuum as it is by default) and two server processes of its
own, with short times to keep threads and runs, and lets Locust load them. Every few seconds it
notes memory, files and connections of the processes, and rows and bytes of the tables.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from loadtests.measuring import machine
from loadtests.measuring.charts import Line, Lines, lines
from loadtests.measuring.database import MeasuredDatabase, measured_database
from loadtests.measuring.figures import Judged, judged_lines, missed, significant
from loadtests.measuring.results import RESULTS, write_result
from loadtests.measuring.servers import headrace_server
from loadtests.measuring.variables import count, number
from loadtests.soak.locust import Outcome, begin, outcome_of
from loadtests.soak.samples import Sample, Sampler, names_of
from loadtests.soak.trends import judged, refusals, trends

_ROOT = Path(__file__).parents[2]
MANIFEST = _ROOT / "loadtests" / "graphs" / "langgraph.json"
CHART = _ROOT / "docs" / "soak.svg"

#: Growth is judged from so many requests on: before, everything still comes to rest.
_JUDGED_FROM = 100_000
_SAMPLES_KEPT = 400
_CHART_POINTS = 150
_SETTLE_SECONDS = 60.0
_TELL_SECONDS = 60.0

#: So short that the tables come to rest within minutes.
RETENTION = {
    "HEADRACE_RETENTION__THREAD_MINUTES": "5",
    "HEADRACE_RETENTION__RUN_MINUTES": "3",
    "HEADRACE_RETENTION__STORE_MINUTES": "5",
    "HEADRACE_RETENTION__SWEEP_MINUTES": "0.1",
    "HEADRACE_RETENTION__SWEEP_LIMIT": "20000",
    "HEADRACE_EVENTS__KEEP_SECONDS": "120",
    "HEADRACE_CHECKPOINTER__CHANNEL_MEMORY_SECONDS": "120",
    "HEADRACE_USAGE__KEEP_DAYS": "0.004",
}
#: A line for each request and run would be gigabytes in the end.
_QUIET = {"HEADRACE_OBSERVABILITY__LOG_LEVEL": "warning"}


@dataclass(frozen=True)
class Plan:
    requests: int
    users: int | None
    sample_seconds: float
    results: Path
    #: Where the chart for the documentation goes; None: beside the results.
    chart: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Plan":
        """
        :raises ValueError: with a sentence about the variable that cannot be.
        """
        requests = count(environ, "SOAK_REQUESTS", 1_000_000)
        results = environ.get("SOAK_RESULTS") or environ.get("LOAD_RESULTS")
        return cls(
            requests=requests,
            users=count(environ, "SOAK_USERS", None),
            sample_seconds=number(environ, "SOAK_SAMPLE_SECONDS", 5.0),
            results=Path(results) if results else RESULTS,
            chart=None if results or requests < 1_000_000 else CHART,
        )


def soak(plan: Plan) -> int:
    """The whole measurement; the exit code."""
    facts = machine.facts()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-soak-", ignore_cleanup_errors=True) as name,
        measured_database(os.environ.get("DATABASE_URL")) as database,
    ):
        folder = Path(name)
        runtime_dir = folder / "runtime"
        settings = {**RETENTION, **_QUIET, "HEADRACE_RUNTIME_DIR": str(runtime_dir)}
        with headrace_server(
            database.url, manifest=MANIFEST, folder=folder, settings=settings
        ) as server:
            sampler = Sampler(server, database.url, runtime_dir)
            locust = begin(server.url, folder, requests=plan.requests, users=plan.users)
            samples = list(_load(plan, sampler, locust))
            outcome = outcome_of(folder, locust)
            unfinished = _unfinished(database)
            postgres = database.facts()
    growth = judged(trends(samples)) if plan.requests >= _JUDGED_FROM else []
    table = [*growth, refusals(outcome.refused_percent)]
    result = {
        "machine": facts,
        "loop_milliseconds_after": machine.loop_milliseconds(),
        "postgres": postgres,
        "settings": RETENTION,
        "requests": outcome.requests,
        "minutes": round(samples[-1].seconds / 60, 1) if samples else 0,
        "outcome": outcome.plain(),
        "runs_unfinished": unfinished,
        "trends": [one.plain() for one in trends(samples)],
        "judged": [one.plain() for one in table],
        "tables": _tables(samples),
        "samples": [_plain(one) for one in _thinned(samples, _SAMPLES_KEPT)],
    }
    path = write_result("soak", result, folder=plan.results)
    chart = plan.chart or plan.results / "soak.svg"
    if len(samples) > 1:
        chart.write_text(_chart(outcome, samples))
    sys.stdout.write("\n".join([*_told(outcome, unfinished, table), f"results: {path}", ""]))
    short = outcome.requests < plan.requests
    return int(bool(outcome.code or unfinished or short or missed(table)))


def _load(plan: Plan, sampler: Sampler, process: subprocess.Popen[bytes]) -> Iterator[Sample]:
    """Samples from the beginning to the end of the load."""
    began = time.monotonic()
    told_at = 0.0
    try:
        while process.poll() is None:
            seconds = time.monotonic() - began
            if (sample := sampler.take(seconds)) is not None:
                yield sample
                if seconds - told_at > _TELL_SECONDS:
                    told_at = seconds
                    sys.stdout.write(f"{seconds / 60:.0f} min: {sample.requests:,.0f} requests\n")
                    sys.stdout.flush()
            with suppress(subprocess.TimeoutExpired):
                process.wait(plan.sample_seconds)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _unfinished(database: MeasuredDatabase) -> int:
    """Runs that have not ended, some time after the last request."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with psycopg.connect(database.url, autocommit=True) as connection:
        while True:
            (found,) = connection.execute(
                "SELECT count(*) FROM runs WHERE status IN ('pending', 'running')"
            ).fetchone() or (0,)
            if not found or time.monotonic() > deadline:
                return int(found)
            time.sleep(1.0)


def _tables(samples: Sequence[Sample]) -> dict[str, Any]:
    """Each table at the end."""
    return {name: asdict(one) for name, one in samples[-1].tables.items()} if samples else {}


def _plain(sample: Sample) -> dict[str, Any]:
    return {
        "seconds": round(sample.seconds, 1),
        "requests": round(sample.requests),
        **{name: significant(value) for name, value in sample.values.items()},
    }


def _thinned(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    step = max(1, -(-len(samples) // most))
    return samples[::step]


def _chart(outcome: Outcome, samples: Sequence[Sample]) -> str:
    shown = _thinned(samples, _CHART_POINTS)
    names = names_of(shown)

    def panel(title: str, unit: str, wanted: Sequence[str]) -> Lines:
        drawn = [
            Line(
                name.partition(", ")[2] or name,
                [(one.requests / 1000, one.values[name]) for one in shown],
            )
            for name in wanted
        ]
        return Lines(title, drawn, "thousand requests", unit, linear=True)

    def all_of(start: str) -> list[str]:
        return [name for name in names if name.startswith(start)]

    return lines(
        f"{outcome.requests:,} requests of all kinds, {outcome.failures} failures",
        [
            panel("Memory", "MiB", all_of("RSS")),
            panel("Open files and connections", "", [*all_of("files"), "connections"]),
            panel("Tables with their indexes", "MiB", ["tables MiB"]),
            panel("Rows by Postgres's statistics", "", ["live rows", "dead rows"]),
        ],
    )


def _told(outcome: Outcome, unfinished: int, table: Sequence[Judged]) -> Iterator[str]:
    yield (
        f"{outcome.requests:,} requests, {outcome.failures} failures, {outcome.refused} refused,"
        f" {outcome.per_second:.0f} per second; p50 {outcome.p50_ms:g}, p95 {outcome.p95_ms:g},"
        f" p99 {outcome.p99_ms:g} ms; runs that did not end: {unfinished}"
    )
    yield from outcome.errors
    if len(table) > 1:
        yield "growth per 100,000 requests, over the last two thirds:"
    else:
        yield f"growth is judged from {_JUDGED_FROM:,} requests on"
    yield from judged_lines(table)


def main() -> None:
    # An end by signal stops server and database too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        plan = Plan.of(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    sys.exit(soak(plan))


if __name__ == "__main__":
    main()
