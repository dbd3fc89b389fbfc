"""One level of the ramp: so many agents at once, and what all parts take for them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from loadtests.agents.visitors import (
    BETWEEN,
    DELAY,
    FIRST,
    GAP,
    RUN,
    RUNS,
    START,
    TO_FIRST,
    Agents,
)
from loadtests.agents.workload import Workload
from loadtests.measuring.apart import load_process
from loadtests.measuring.client import Load, Outcome
from loadtests.measuring.database import MeasuredDatabase, PostgresProcessor
from loadtests.measuring.figures import Target, percentile, significant
from loadtests.measuring.machine import loop_milliseconds
from loadtests.measuring.processors import busy_seconds
from loadtests.measuring.servers import ServerProcess

#: p99 in milliseconds. The first token of a run counts from the request for the run.
TARGETS = {
    TO_FIRST: Target(20, 10, lower_is_better=True),
    FIRST: Target(20, 10, lower_is_better=True),
    GAP: Target(10, 5, lower_is_better=True),
}
_TIMES = (FIRST, GAP, DELAY, TO_FIRST, START, BETWEEN)
#: Below this part of the tokens that the agents should hear, the machine is saturated.
_PACE = 0.97


class Site(NamedTuple):
    """Everything that takes processor time, but the client."""

    server: ServerProcess
    model: ServerProcess
    database: MeasuredDatabase | None = None

    def cpu_seconds(self) -> dict[str, float]:
        found = {"server": self.server.cpu_seconds(), "model": self.model.cpu_seconds()}
        if self.database is not None:
            found["postgres"] = PostgresProcessor(self.database).seconds() or 0.0
        return found

    def connections(self) -> int | None:
        """Of the server to its database."""
        if self.database is None:
            return None
        with psycopg.connect(self.database.admin_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [self.database.name]
            ).fetchone()
        assert row is not None
        return int(row[0])


def measure_level(site: Site, agents: int, workload: Workload, seconds: float) -> dict[str, Any]:
    """Figures of ``seconds`` with ``agents`` under way; takes two runs longer than that."""
    loop_ms = loop_milliseconds()
    idle_bytes = site.server.rss_bytes()
    load = Load(site.server.port, Agents(agents, workload), connections=agents, seconds=seconds)
    with load_process(load) as process:
        process.wait_begun()
        before, busy_before = site.cpu_seconds(), busy_seconds() or 0.0
        process.wait_ended()
        after, busy_after = site.cpu_seconds(), busy_seconds() or 0.0
        busy_bytes, connections = site.server.rss_bytes(), site.connections()
        outcome = process.outcome()
    cpu = {part: after[part] - before[part] for part in after}
    cpu["client"] = outcome.cpu_seconds
    tokens = len(outcome.notes.get(DELAY, ()))
    per_second = tokens / outcome.seconds
    others = max(0.0, busy_after - busy_before - sum(cpu.values()))
    return {
        "agents": agents,
        "loop_milliseconds": loop_ms,
        "tokens": tokens,
        "tokens_per_second": significant(per_second),
        "pace": significant(per_second / (agents * workload.tokens_per_second)),
        "runs": len(outcome.notes.get(RUN, ())),
        "faults": _faults(outcome),
        "milliseconds": _milliseconds(outcome.notes),
        "cores": {part: significant(used / outcome.seconds) for part, used in cpu.items()},
        "other_cores": significant(others / outcome.seconds),
        "cpu_ms_per_1000_tokens": {
            part: significant(used * 1e6 / max(tokens, 1)) for part, used in cpu.items()
        },
        "rss_bytes_per_run": significant((busy_bytes - idle_bytes) / agents),
        "connections": connections,
    }


def checkpoints_of_runs(database: MeasuredDatabase) -> dict[str, int]:
    """How many runs that have succeeded have how many checkpoints, each on a thread of its own."""
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(
            "SELECT made, count(*) FROM (SELECT count(*) AS made FROM runs"
            " JOIN checkpoints USING (thread_id) WHERE status = 'success' GROUP BY run_id) AS each"
            " GROUP BY made ORDER BY made"
        ).fetchall()
    return {str(made): count for made, count in rows}


def carried(level: Mapping[str, Any]) -> bool:
    """Whether the tokens came at the model's pace, all of them, within the floors."""
    times = level["milliseconds"]
    return (
        not level["faults"]
        and level["pace"] >= _PACE
        and all(
            name in times and target.verdict(times[name]["p99"]) != "missed"
            for name, target in TARGETS.items()
        )
    )


def saturated(level: Mapping[str, Any]) -> bool:
    """Whether more agents would only wait longer."""
    return bool(level["pace"] < _PACE)


def largest_carried(levels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The level with the most agents that the machine carries; None where it carries none."""
    found = [level for level in levels if carried(level)]
    return max(found, key=lambda level: int(level["agents"])) if found else None


def _faults(outcome: Outcome) -> dict[str, int]:
    found = dict(outcome.faults)
    if failed := outcome.failed():
        found["failed requests"] = failed
    if broken_off := outcome.good(RUNS) - outcome.ends[RUNS]:
        found["streams without an end"] = broken_off
    return found


def _milliseconds(notes: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            label: significant(percentile(notes[name], rank) * 1000)
            for label, rank in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        }
        for name in _TIMES
        if notes.get(name)
    }
