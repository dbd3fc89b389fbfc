"""One rate of runs: what came back, what the runs took beyond their second, what they cost."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load, Outcome
from loadtests.measuring.database import MeasuredDatabase, PostgresProcessor
from loadtests.measuring.figures import Target, percentile, significant
from loadtests.measuring.machine import loop_milliseconds
from loadtests.measuring.processors import busy_seconds
from loadtests.measuring.servers import ServerProcess
from loadtests.sizing.graph import RUN_SECONDS
from loadtests.sizing.schedules import CREATE, LATE, WAIT, Schedule

#: Of what a run takes beyond its second, in milliseconds, p99.
ADDED = Target(100, 25, lower_is_better=True)
#: Below this part of the rate that is asked, the machine is saturated.
_PACE = 0.97
_END_SECONDS = 60.0


class Site(NamedTuple):
    server: ServerProcess
    database: MeasuredDatabase


def measure_rate(site: Site, schedule: Schedule, seconds: float) -> dict[str, Any]:
    """Figures of ``seconds`` at this rate; returns when every run has ended."""
    server, processor = site.server, PostgresProcessor(site.database)
    loop_ms = loop_milliseconds()
    load = Load(server.port, schedule, connections=schedule.visitors, seconds=seconds)
    with load_process(load) as process:
        process.wait_begun()
        since = _now(site.database)
        before = _cpu(server, processor)
        process.wait_ended()
        after = _cpu(server, processor)
        in_flight, connections = _counts(site.database)
        rss = server.rss_bytes()
        outcome = process.outcome()
    _wait_ended(site.database)
    cpu = {part: after[part] - before[part] for part in after}
    cpu["client"] = outcome.cpu_seconds
    cpu["others"] = max(0.0, cpu.pop("machine") - sum(cpu.values()))
    made = outcome.good(schedule.how)
    # A wait is answered after its run: none is in the first second.
    answering = outcome.seconds - (RUN_SECONDS if schedule.how == WAIT else 0.0)
    reads = sum(outcome.good(name) for name in outcome.statuses) - made
    return {
        "rate": schedule.rate,
        "reads": schedule.reads,
        "loop_milliseconds": loop_ms,
        "runs_per_second": significant(made / answering),
        "reads_per_second": significant(reads / outcome.seconds),
        "in_flight": in_flight,
        "failed": outcome.failed(),
        **_runs(site.database, since),
        "milliseconds": _milliseconds(outcome),
        "cores": {part: significant(used / outcome.seconds) for part, used in cpu.items()},
        "cpu_ms_per_run": {
            part: significant(used * 1000 / max(made, 1)) for part, used in cpu.items()
        },
        "connections": connections,
        "rss_mb": round(rss / 2**20),
    }


def _cpu(server: ServerProcess, processor: PostgresProcessor) -> dict[str, float]:
    return {
        "server": server.cpu_seconds(),
        "postgres": processor.seconds() or 0.0,
        "machine": busy_seconds() or 0.0,
    }


def kept_up(level: Mapping[str, Any]) -> bool:
    """Whether runs were made at the rate that was asked, all succeeded, and all in time."""
    return (
        not saturated(level)
        and not level["failed"]
        and set(level["statuses"]) == {"success"}
        and ADDED.verdict(level["added_milliseconds"]["p99"]) != "missed"
    )


def saturated(level: Mapping[str, Any]) -> bool:
    """Whether a higher rate would only make more requests wait."""
    return bool(level["runs_per_second"] < _PACE * level["rate"])


def _milliseconds(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Of requests, a wait without its second; and of how late they were sent."""
    found = {name: list(values) for name, values in outcome.latencies.items()}
    if WAIT in found:
        found[WAIT] = [one - RUN_SECONDS for one in found[WAIT]]
    found[LATE] = outcome.notes.get(LATE, [])
    return {
        name: {
            label: significant(percentile(values, rank) * 1000)
            for label, rank in (("p50", 0.5), ("p99", 0.99))
        }
        for name, values in found.items()
        if values
    }


def _now(database: MeasuredDatabase) -> datetime:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


def _counts(database: MeasuredDatabase) -> tuple[int, int]:
    """Runs under way, and connections of the server."""
    with psycopg.connect(database.admin_url) as connection:
        open_ones = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [database.name]
        ).fetchone()
    with psycopg.connect(database.url) as connection:
        running = connection.execute(
            "SELECT count(*) FROM runs WHERE status = 'running'"
        ).fetchone()
    assert running is not None
    assert open_ones is not None
    return int(running[0]), int(open_ones[0])


def _wait_ended(database: MeasuredDatabase) -> None:
    """Until no run is under way; runs that are left are counted by their status then."""
    deadline = time.monotonic() + _END_SECONDS
    with psycopg.connect(database.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT EXISTS (SELECT FROM runs WHERE status IN ('pending', 'running'))"
            ).fetchone()
            if row == (False,):
                return
            time.sleep(0.2)


def _runs(database: MeasuredDatabase, since: datetime) -> dict[str, Any]:
    """Statuses, and what runs took beyond their second, from the request's row to the end's."""
    with psycopg.connect(database.url) as connection:
        statuses = connection.execute(
            "SELECT status, count(*) FROM runs WHERE created_at >= %s GROUP BY status", [since]
        ).fetchall()
        added = connection.execute(
            "SELECT percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP"
            " (ORDER BY extract(epoch FROM ended_at - created_at)::float8 - %s)"
            " FROM runs WHERE created_at >= %s AND ended_at IS NOT NULL",
            [RUN_SECONDS, since],
        ).fetchone()
    assert added is not None
    values = added[0] or (0.0, 0.0, 0.0)
    return {
        "statuses": dict(statuses),
        "added_milliseconds": {
            label: significant(value * 1000)
            for label, value in zip(("p50", "p95", "p99"), values, strict=True)
        },
    }


#: What ``measure_rate`` can be asked for, in the order in which it is told.
KINDS = {
    "background": (CREATE, False),
    "background_and_reads": (CREATE, True),
    "wait": (WAIT, False),
}
