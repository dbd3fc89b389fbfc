"""How long a claim takes in a long queue: ``python -m loadtests.claims``.

Half of the pending runs wait behind one busy thread, the others on threads of their own; a
transaction with an old snapshot is open all the while, so that no index entry of what was claimed
can go. First the others are claimed; then, again and again, the run of the busy thread ends and the
next of those behind it is taken.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from uuid import UUID

import psycopg

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.writer import Writer
from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.migrate import upgrade
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.ids import uuid7
from headrace.queue.ends import RunEnd
from headrace.queue.queue import Queue
from loadtests.measuring import machine

FLOOR_MILLISECONDS = 20.0
_BATCH = 10
_DONE = RunEnd("success", "idle")

_FILL = """
INSERT INTO threads (thread_id, status) SELECT 'thread-' || number, 'busy'
FROM generate_series(1, %(others)s) AS number;
INSERT INTO threads (thread_id, status) VALUES ('busy', 'busy');
INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status)
SELECT gen_random_uuid(), 'thread-' || number, gen_random_uuid(), 'agent', 'pending'
FROM generate_series(1, %(others)s) AS number;
INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, created_at)
SELECT gen_random_uuid(), 'busy', gen_random_uuid(), 'agent', 'pending',
  now() + (number - %(behind)s - 1) * interval '1 millisecond'
FROM generate_series(1, %(behind)s) AS number;
INSERT INTO runs (
  run_id, thread_id, assistant_id, graph_id, status, attempt, process_id, created_at, started_at)
VALUES (%(running)s, 'busy', gen_random_uuid(), 'agent', 'running', 1, %(process)s,
  now() - (%(behind)s + 2) * interval '1 millisecond', now());
UPDATE threads SET running_run_id = %(running)s WHERE thread_id = 'busy';
UPDATE threads SET ready_at = now() + random() * interval '1 second' - interval '1 hour',
  ready_run_id = runs.run_id, ready_graph_id = 'agent'
FROM runs WHERE runs.thread_id = threads.thread_id AND threads.thread_id <> 'busy';
ANALYZE threads;
ANALYZE runs;
"""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of each claim of ten runs; of each claim, and each end, of a run of the busy thread."""

    claims: list[float]
    next_claims: list[float]
    ends: list[float]


async def measure(url: str, *, pending: int, claims: int, turns: int) -> Seconds:
    """The database is migrated and otherwise empty."""
    running, process_id = uuid7(), uuid7()
    fill(url, pending=pending, running=running, process_id=process_id)
    settings = DatabaseSettings.model_validate({"url": url})
    facts = await probe(login_of(settings))
    pool = build_pool(settings, behind_pooler=facts.behind_pooler)
    await pool.open(wait=True)
    writer = Writer(pool, CheckpointerSettings())
    queue = Queue(pool, writer)
    seconds = Seconds([], [], [])
    try:
        for _ in range(claims):
            started = perf_counter()
            found = await queue.claimer.claim(process_id, ["agent"], _BATCH)
            seconds.claims.append(perf_counter() - started)
            assert len(found) == _BATCH, "the queue ran dry: fewer claims, or more runs"
            assert "busy" not in {one.request.thread_id for one in found}
        with psycopg.connect(url, autocommit=True) as database:
            # What is left of the others would be taken first.
            database.execute("UPDATE threads SET ready_at = NULL WHERE thread_id <> 'busy'")
        await _take_turns(queue, process_id, running, turns, seconds)
    finally:
        await writer.stop()
        await pool.close()
    return seconds


async def _take_turns(
    queue: Queue, process_id: UUID, run_id: UUID, turns: int, seconds: Seconds
) -> None:
    """The run of the busy thread ends, the next of those behind it is taken."""
    for _ in range(turns):
        started = perf_counter()
        ended = await queue.end_if_owned(RunToken(run_id, 1, process_id), "busy", _DONE)
        seconds.ends.append(perf_counter() - started)
        assert ended.more, "none is behind it: fewer turns, or more runs"
        started = perf_counter()
        (one,) = await queue.claimer.claim(process_id, ["agent"], _BATCH)
        seconds.next_claims.append(perf_counter() - started)
        assert one.request.thread_id == "busy"
        run_id = one.request.run_id


def fill(url: str, *, pending: int, running: UUID, process_id: UUID) -> None:
    values = {
        "others": pending - pending // 2,
        "behind": pending // 2,
        "running": running,
        "process": process_id,
    }
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(
            "INSERT INTO processes (process_id, hostname, pid, version, lease_seconds)"
            " VALUES (%s, 'h', 1, '0', 3600)",
            (process_id,),
        )
        cursor = psycopg.ClientCursor(database)
        cursor.execute(_FILL, values)


def percentile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]


Report = dict[str, dict[str, float]]


def report(seconds: Seconds) -> Report:
    return {
        name: {
            "count": len(some),
            "p50_ms": round(percentile(some, 0.5), 2),
            "p99_ms": round(percentile(some, 0.99), 2),
            "max_ms": round(1000 * max(some), 2),
        }
        for name, some in (
            ("claims of ten", seconds.claims),
            ("claims of the next on a busy thread", seconds.next_claims),
            ("ends on a busy thread", seconds.ends),
        )
    }


def under_an_old_snapshot(url: str, *, pending: int, claims: int, turns: int) -> Seconds:
    """As :func:`measure`, beside the old transaction."""
    with psycopg.connect(url) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM runs")
        return asyncio.run(measure(url, pending=pending, claims=claims, turns=turns))


def _server_in(folder: Path) -> EmbeddedPostgres:
    folder.chmod(0o755)
    return EmbeddedPostgres(folder / "pg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database; default: an embedded server of its own")
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--claims", type=int, default=4_000)
    parser.add_argument("--turns", type=int, default=4_000, help="runs of the busy thread")
    options = parser.parse_args()
    facts = machine.facts()
    sizes = {"pending": options.pending, "claims": options.claims, "turns": options.turns}
    if options.url:
        upgrade(DatabaseSettings.model_validate({"url": options.url}))
        found = report(under_an_old_snapshot(options.url, **sizes))
    else:
        with (
            # Where a server that gives up root can still read it.
            tempfile.TemporaryDirectory(prefix="headrace-claims-") as name,
            _server_in(Path(name)) as server,
        ):
            url = server.dsn()
            upgrade(DatabaseSettings.model_validate({"url": url}))
            found = report(under_an_old_snapshot(url, **sizes))
    told = {"machine": facts, **sizes, "floor_p99_ms": FLOOR_MILLISECONDS, **found}
    sys.stdout.write(f"{json.dumps(told, indent=2)}\n")
    if any(one["p99_ms"] > FLOOR_MILLISECONDS for one in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
