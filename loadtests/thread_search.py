"""Lists of a million threads: ``python -m loadtests.thread_search``.

Each case is asked over HTTP, one request at a time, of one server process on a database of its own;
what it takes is printed beside the bound it has, and the exit code is 1 when one is missed. Cases
without a bound say what they cost. Beside it stands the processor time of a request in server and
Postgres, which says what a busy machine would take if it were not.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from loadtests.measuring.database import MeasuredDatabase, PostgresProcessor, measured_database
from loadtests.measuring.servers import (
    ServerProcess,
    headrace_server,
    stop_in_order,
    write_manifest,
)
from loadtests.peers import graphs

FIRST_PAGE_MILLISECONDS = 20.0
DEEP_PAGE_MILLISECONDS = 150.0

#: Of a million: 900,000 of one graph, 1 % of a team, 20 of a user; 1 % failed, 20 interrupted, 500
#: with a run. Those that were imported are the oldest 1 %.
_FILL = """
INSERT INTO threads (thread_id, metadata, status, created_at, updated_at)
SELECT gen_random_uuid()::text,
  jsonb_build_object(
    'graph_id', CASE WHEN n %% 10 = 0 THEN 'other' ELSE 'agent' END,
    'assistant_id', 'fe096781-5601-53d2-b2f6-0d3403f7e9ca',
    'user', 'user-' || n %% (count / 20),
    'team', n %% 100
  ) || CASE WHEN n <= count / 100 THEN '{"imported": true}' ELSE '{}' END::jsonb,
  CASE WHEN n %% 100 = 7 THEN 'error' WHEN n %% (count / 20) = 11 THEN 'interrupted'
    ELSE 'idle' END,
  now() - (count - n + 1) * interval '1 second',
  now() - (n::bigint * 7919 %% count) * interval '1 second'
FROM (SELECT n, %(threads)s AS count FROM generate_series(1, %(threads)s) AS n) AS numbers
ORDER BY n;
WITH busy AS (
  UPDATE threads SET status = 'busy', running_run_id = gen_random_uuid()
  WHERE thread_id IN (SELECT thread_id FROM threads WHERE status = 'idle'
    ORDER BY created_at LIMIT 500)
  RETURNING thread_id, running_run_id
)
INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, status, attempt, process_id,
  started_at)
SELECT running_run_id, thread_id, gen_random_uuid(), 'agent', 'running', 1, %(process)s, now()
FROM busy;
"""


@dataclass(frozen=True)
class Case:
    """One search, and what it may take at the 95th percentile; None: it has no bound."""

    name: str
    body: dict[str, Any]
    bound: float | None = None
    path: str = "/threads/search"


def cases(threads: int) -> Iterator[Case]:
    deep = threads // 2
    common: list[tuple[str, dict[str, Any]]] = [
        ("newest first", {}),
        ("metadata, most threads have it", {"metadata": {"graph_id": "agent"}}),
        ("status idle", {"status": "idle"}),
    ]
    for name, body in common:
        yield Case(name, body, FIRST_PAGE_MILLISECONDS)
        yield Case(f"{name}, 100 at once", {**body, "limit": 100})
        yield Case(f"{name}, offset {deep:,}", {**body, "offset": deep}, DEEP_PAGE_MILLISECONDS)
    others: list[tuple[str, dict[str, Any]]] = [
        ("metadata, 1 % of threads", {"metadata": {"team": 5}}),
        ("metadata, 20 threads", {"metadata": {"user": "user-5"}}),
        ("metadata, the oldest 1 %", {"metadata": {"imported": True}}),
        ("metadata, no thread", {"metadata": {"user": "nobody"}}),
        ("status error, 1 %", {"status": "error"}),
        ("status interrupted, 20 threads", {"status": "interrupted"}),
        ("status busy, 500 threads", {"status": "busy"}),
        (
            "status error and metadata of 90 %",
            {"status": "error", "metadata": {"graph_id": "agent"}},
        ),
    ]
    for name, body in others:
        yield Case(name, body, FIRST_PAGE_MILLISECONDS)
    yield Case("oldest first", {"sort_order": "asc"}, FIRST_PAGE_MILLISECONDS)
    yield Case("by thread_id", {"sort_by": "thread_id"})
    yield Case("by updated_at", {"sort_by": "updated_at"})
    yield Case("by updated_at, a team's", {"sort_by": "updated_at", "metadata": {"team": 5}})
    yield Case("count of all", {}, path="/threads/count")
    yield Case("count of metadata, 1 %", {"metadata": {"team": 5}}, path="/threads/count")


def fill(url: str, threads: int) -> None:
    """Threads that nobody has run, in a migrated database."""
    with psycopg.connect(url, autocommit=True) as database:
        cursor = psycopg.ClientCursor(database)
        process = "00000000-0000-0000-0000-000000000001"
        cursor.execute(
            "INSERT INTO processes (process_id, hostname, pid, version, lease_seconds)"
            " VALUES (%s, 'h', 1, '0', 86400)",
            (process,),
        )
        cursor.execute(_FILL, {"threads": threads, "process": process})
        database.execute("VACUUM (ANALYZE) threads")
        database.execute("ANALYZE runs")


class Processors:
    """Whose time a request takes: that of the server, and of Postgres."""

    def __init__(self, server: ServerProcess, database: MeasuredDatabase) -> None:
        self._server = server
        self._postgres = PostgresProcessor(database)

    def read(self) -> tuple[float, float]:
        """Milliseconds so far; not a number where they are not known."""
        postgres = self._postgres.seconds()
        return self._server.cpu_seconds() * 1000, nan if postgres is None else postgres * 1000


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}: {text.decode()}")
    return json.loads(text)


@contextmanager
def listed(threads: int, given_url: str | None) -> Iterator[tuple[HTTPConnection, Processors]]:
    """A server on a database with so many threads, the newest twelve of which have values."""
    with ExitStack() as stack:
        database = stack.enter_context(measured_database(given_url))
        started = time.perf_counter()
        fill(database.url, threads)
        sys.stdout.write(f"{threads:,} threads made in {time.perf_counter() - started:.0f} s\n")
        folder = Path(stack.enter_context(TemporaryDirectory()))
        manifest = write_manifest(folder, {"trivial": f"{graphs.__file__}:trivial"})
        running = stack.enter_context(
            headrace_server(
                database.url,
                manifest=manifest,
                folder=folder,
                processes=1,
                settings={"HEADRACE_OBSERVABILITY__LOG_LEVEL": "warning"},
            )
        )
        server = HTTPConnection("127.0.0.1", running.port, timeout=60)
        stack.callback(server.close)
        for _ in range(12):
            thread_id = post(server, "/threads", {})["thread_id"]
            body = {"assistant_id": "trivial", "input": {"messages": []}}
            post(server, f"/threads/{thread_id}/runs/wait", body)
        yield server, Processors(running, database)


@dataclass(frozen=True)
class Taken:
    """Milliseconds: of each request, sorted; and of a request on the processors."""

    each: list[float]
    server: float
    postgres: float

    def percentile(self, share: float) -> float:
        return self.each[int(len(self.each) * share)]


def measure(server: HTTPConnection, case: Case, requests: int, processors: Processors) -> Taken:
    for _ in range(3):
        post(server, case.path, case.body)
    took, before = [], processors.read()
    for _ in range(requests):
        started = time.perf_counter()
        post(server, case.path, case.body)
        took.append((time.perf_counter() - started) * 1000)
    after = processors.read()
    each = [(late - early) / requests for late, early in zip(after, before, strict=True)]
    return Taken(sorted(took), *each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server to make a database on; default: an embedded one")
    parser.add_argument("--threads", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=60)
    options = parser.parse_args()
    stop_in_order()
    missed = []
    with listed(options.threads, options.url) as (server, processors):
        sys.stdout.write(f"{'':46}{'processor ms':>16}\n{'':46}{'server':>8}{'Postgres':>9}")
        sys.stdout.write(f"{'p50 ms':>9}{'p95 ms':>9}{'bound':>8}\n")
        for case in cases(options.threads):
            took = measure(server, case, options.requests, processors)
            p50, p95 = took.percentile(0.5), took.percentile(0.95)
            verdict = ""
            if case.bound is not None:
                verdict = f"{case.bound:8.0f}" + (" MISSED" if p95 > case.bound else "")
                if p95 > case.bound:
                    missed.append(case.name)
            sys.stdout.write(f"{case.name:46}{took.server:8.1f}{took.postgres:9.1f}")
            sys.stdout.write(f"{p50:9.1f}{p95:9.1f}{verdict}\n")
            sys.stdout.flush()
    if missed:
        sys.stdout.write(f"{json.dumps({'missed': missed})}\n")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
