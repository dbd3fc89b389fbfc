"""Processes and runs as rows, for tests of who runs what."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.checkpoints.fence import RunToken
from headrace.ids import uuid7
from headrace.queue.ends import RunEnd
from headrace.queue.rows import RunRequest

DONE = RunEnd("success", "idle")


def run_request(
    thread_id: str = "t", *, create: bool = True, principal: Principal = ANONYMOUS
) -> RunRequest:
    return RunRequest(
        assistant_updated_at=None,
        run_id=uuid7(),
        thread_id=thread_id,
        assistant_id=UUID(int=1),
        graph_id="agent",
        principal=principal,
        multitask_strategy="enqueue",
        kwargs={"input": {"text": "hi"}},
        metadata={"own": 1},
        thread_config={"configurable": {}},
        request_id="",
        create_thread=create,
        temporary_thread=False,
    )


def register_process(
    database: psycopg.Connection[Any], *, age_seconds: float = 0, lost: bool = False
) -> UUID:
    """A row of ``processes``, with a lease of 10 seconds."""
    process_id = uuid7()
    database.execute(
        "INSERT INTO processes"
        " (process_id, hostname, pid, version, lease_seconds, heartbeat_at, lost)"
        " VALUES (%s, 'h', 1, '0', 10, clock_timestamp() - make_interval(secs => %s), %s)",
        (process_id, age_seconds, lost),
    )
    return process_id


def expire_process(database: psycopg.Connection[Any], process_id: UUID) -> None:
    """Its lease has run out."""
    database.execute(
        "UPDATE processes SET heartbeat_at = clock_timestamp() - interval '1 minute'"
        " WHERE process_id = %s",
        (process_id,),
    )


#: A timeline that no test server has.
OTHER_TIMELINE = "0000FFFF"


def present_timeline(database: psycopg.Connection[Any]) -> str:
    """As the server's WAL has it."""
    row = database.execute(
        "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
    ).fetchone()
    assert row is not None
    return str(row[0])


def set_timeline(database: psycopg.Connection[Any], process_id: UUID, timeline: str | None) -> None:
    """As if the process had registered on that timeline."""
    database.execute(
        "UPDATE processes SET timeline = %s WHERE process_id = %s", (timeline, process_id)
    )


def insert_running_run(
    database: psycopg.Connection[Any], process_id: UUID, thread_id: str
) -> RunToken:
    """A run of ``process_id`` on a thread of its own, without a queue."""
    run_id = uuid7()
    database.execute(
        "INSERT INTO threads (thread_id, tenant, owner, status, running_run_id)"
        " VALUES (%s, 'default', 'anonymous', 'busy', %s)",
        (thread_id, run_id),
    )
    database.execute(
        "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, tenant, owner, status,"
        " attempt, process_id, multitask_strategy, metadata, kwargs, started_at)"
        " VALUES (%s, %s, %s, 'agent', 'default', 'anonymous', 'running', 1, %s, 'enqueue',"
        " '{}', '{}', now())",
        (run_id, thread_id, UUID(int=1), process_id),
    )
    return RunToken(run_id, 1, process_id)


@contextmanager
def default_isolation(url: str, level: str) -> Iterator[None]:
    """What sessions of this database get when they do not ask; for sessions that begin inside."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(
            f"ALTER DATABASE {database.info.dbname} SET default_transaction_isolation = '{level}'"
        )
    yield
