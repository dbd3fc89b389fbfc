"""The cost of a run against what is stored, waits, or is open while it is made.

Rows come in bulk, copied in SQL from rows that a real run has left. Autovacuum does not see them
in time; ``analyzed`` says whether the tables were analyzed afterwards, and both are measured.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

import psycopg

from loadtests.growth.costs import Costs, mean_cost
from loadtests.measuring.database import MeasuredDatabase
from loadtests.measuring.figures import significant
from loadtests.measuring.servers import ServerProcess

Say = Callable[[str], None]

#: The row with its keys made from a number. Each table is filled from one row or a few.
_COPY = """
INSERT INTO {table}
SELECT made.*
FROM (
  SELECT to_jsonb(one) AS content FROM {table} AS one
  WHERE thread_id = %(thread_id)s
    AND (%(run_id)s::text IS NULL OR to_jsonb(one) ->> 'run_id' = %(run_id)s::text)
) AS row
CROSS JOIN generate_series(%(first)s::int, %(last)s::int) AS number
CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, row.content || {keys}) AS made
"""
_THREAD = "jsonb_build_object('thread_id', md5('t' || number)::uuid::text)"
_RUN = (
    "jsonb_build_object('thread_id', md5('t' || number)::uuid::text,"
    " 'run_id', md5('r' || number)::uuid)"
)
_PENDING = (
    "jsonb_build_object('run_id', md5('p' || number)::uuid, 'status', 'pending', 'attempt', 0,"
    " 'process_id', NULL, 'started_at', NULL)"
)
#: In the order of their references.
_TABLES = {
    "threads": _THREAD,
    "runs": _RUN,
    "checkpoints": _THREAD,
    "checkpoint_blobs": _THREAD,
    "checkpoint_writes": _THREAD,
}
_BYTES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relname = ANY(%s) AND relkind = 'r'
"""

_RUN_BODY = {"assistant_id": "messages_state", "input": {"messages": ["hello"]}}


def _run(_: int) -> tuple[str, str, bytes]:
    return "POST", "/runs/wait", json.dumps({**_RUN_BODY, "on_completion": "keep"}).encode()


def runs_stored(
    server: ServerProcess,
    database: MeasuredDatabase,
    counts: Sequence[int],
    *,
    operations: int,
    most_checkpoints: int,
    say: Say,
) -> dict[str, Any]:
    """By number of stored threads with a run each: a run on a new thread, and bytes by table.

    :param most_checkpoints: only so many runs have rows in the saver's tables, of which each run
        has ten kilobytes. The bytes are those of the largest number up to this one.
    """
    costs, found, before = Costs(server, database), {}, 0
    sizes: dict[str, float] = {}
    template = _kept_thread(server)
    costs.of(operations, _run)
    for count in counts:
        with psycopg.connect(database.url, autocommit=True) as connection:
            for table, keys in _TABLES.items():
                if count <= most_checkpoints or not table.startswith("checkpoint"):
                    _copy(connection, table, keys, template, before + 1, count)
        before = count
        if count <= most_checkpoints:
            sizes = _bytes_per_run(database, count)
        stale = costs.of(operations, _run)
        database.analyze()
        found[str(count)] = {
            "not_analyzed": stale.plain(),
            **mean_cost([costs.of(operations, _run) for _ in range(2)]),
        }
        say(f"{count:,} runs stored")
    return {"by_runs": found, "bytes_per_run": sizes}


def queue_length(
    server: ServerProcess,
    database: MeasuredDatabase,
    counts: Sequence[int],
    *,
    operations: int,
    say: Say,
) -> dict[str, Any]:
    """By number of pending runs behind a busy thread: a run on a new thread."""
    costs, found, before = Costs(server, database), {}, 0
    status, thread = server.ask("POST", "/threads", {})
    status, told = server.ask(
        "POST", f"/threads/{thread['thread_id']}/runs", {"assistant_id": "quiet", "input": {}}
    )
    if status != 200:
        raise RuntimeError(f"{status} {told}")
    costs.of(operations, _run)
    for count in counts:
        with psycopg.connect(database.url, autocommit=True) as connection:
            busy, run_id = thread["thread_id"], told["run_id"]
            _copy(connection, "runs", _PENDING, busy, before + 1, count, run_id=run_id)
        before = count
        stale = costs.of(operations, _run)
        database.analyze()
        found[str(count)] = {
            "not_analyzed": stale.plain(),
            **mean_cost([costs.of(operations, _run) for _ in range(2)]),
        }
        say(f"{count:,} runs pending")
    return {"by_pending": found}


def open_streams(
    server: ServerProcess,
    database: MeasuredDatabase,
    counts: Sequence[int],
    *,
    operations: int,
    say: Say,
) -> dict[str, Any]:
    """By number of open streams, each of a run that waits: a run beside them."""
    costs, found = Costs(server, database), {}
    costs.of(operations, _run)
    with ExitStack() as stack:
        opened = 0
        for count in counts:
            while opened < count:
                stack.enter_context(_stream(server))
                opened += 1
            found[str(count)] = mean_cost([costs.of(operations, _run) for _ in range(2)])
            say(f"{count:,} streams open")
    return {"by_streams": found}


@contextmanager
def _stream(server: ServerProcess) -> Iterator[None]:
    """An open stream of a run that waits; closed, its run is cancelled."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = {"assistant_id": "quiet", "input": {}, "on_disconnect": "cancel"}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/runs/stream", json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status} {response.read()!r}")
    try:
        yield
    finally:
        connection.close()


def _kept_thread(server: ServerProcess) -> str:
    """A thread with one run that has ended, as bulk rows are made of."""
    thread_id = str(uuid4())
    server.ask("POST", "/threads", {"thread_id": thread_id})
    status, told = server.ask("POST", f"/threads/{thread_id}/runs/wait", _RUN_BODY)
    if status != 200:
        raise RuntimeError(f"{status} {told}")
    return thread_id


def _copy(
    connection: psycopg.Connection,
    table: str,
    keys: str,
    thread_id: str,
    first: int,
    last: int,
    *,
    run_id: str | None = None,
) -> None:
    """:param run_id: copy only this run's row, where copies stay on the thread."""
    connection.execute(
        _COPY.format(table=table, keys=keys).encode(),
        {"thread_id": thread_id, "run_id": run_id, "first": first, "last": last},
    )


def _bytes_per_run(database: MeasuredDatabase, runs: int) -> dict[str, float]:
    """Of each table, indexes and TOAST included."""
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(_BYTES, [list(_TABLES)]).fetchall()
    return {table: significant(size / runs) for table, size in rows}
