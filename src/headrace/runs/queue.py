"""The run queue in Postgres: named statements of queue.sql, in transactions that keep its law.

Only the worker may import this; everything here is guarded by owner and attempt, not by tenant.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.errors import LeaseLost, ThreadBusy, ThreadNotFound
from headrace.runs.dispatcher import RunRequest


def named_statements() -> dict[str, sql.SQL]:
    """The statements of queue.sql by name."""
    text = files("headrace.runs").joinpath("queue.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: sql.SQL(_without_comments(body))
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def _without_comments(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip()


@dataclass(frozen=True, slots=True)
class StartedRun:
    attempt: int
    metadata: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A terminal status and what the thread becomes with it."""

    status: str
    thread_status: str
    error: dict[str, str] | None = None
    interrupts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FailedRun:
    run_id: UUID
    thread_id: str
    graph_id: str


class Queue:
    """Run starts and ends, and what is done about lost processes."""

    def __init__(self, pool: SharedPool, *, lock_timeout_seconds: float = 5.0) -> None:
        self._pool = pool
        self._sql = named_statements()
        self._lock_timeout = f"{int(lock_timeout_seconds * 1000)}ms"

    async def start_if_thread_free(self, request: RunRequest, process_id: UUID) -> StartedRun:
        """Take the thread and insert its run, running, in one transaction.

        :raises ThreadBusy: another run has the thread.
        :raises ThreadNotFound: no such thread for this caller.
        """
        values = {
            "thread_id": request.thread_id,
            "tenant": request.principal.tenant,
            "owner": request.principal.identity,
            "temporary": request.temporary_thread,
            "run_id": request.run_id,
            "assistant_id": request.assistant_id,
            "graph_id": request.graph_id,
            "process_id": process_id,
            "multitask_strategy": request.multitask_strategy,
            "metadata": Jsonb(request.metadata),
            "kwargs": Jsonb(request.kwargs),
            "thread_config": Jsonb(request.thread_config),
        }
        async with self._transaction() as connection:
            if request.create_thread:
                await connection.execute(self._sql["create_thread_if_absent"], values)
            await connection.execute(self._sql["lock_free_thread"], values)
            started = await connection.execute(self._sql["start_run_on_locked_thread"], values)
            existing = await connection.execute(self._sql["thread_exists"], values)
            row = await started.fetchone()
            exists = await existing.fetchone()
        if row is not None:
            return StartedRun(attempt=row[0], metadata=row[1], created_at=row[2])
        if exists is not None:
            raise ThreadBusy
        raise ThreadNotFound(f"Thread with ID {request.thread_id} not found")

    async def end_if_owned(
        self, *, run_id: UUID, thread_id: str, attempt: int, process_id: UUID, end: RunEnd
    ) -> None:
        """Write the run's terminal status and free its thread; safe to repeat.

        :raises LeaseLost: the run is not this process's any more, or ended otherwise.
        """
        values = {
            "run_id": run_id,
            "thread_id": thread_id,
            "attempt": attempt,
            "process_id": process_id,
            "status": end.status,
            "thread_status": end.thread_status,
            "error": _jsonb(end.error),
            "interrupts": _jsonb(end.interrupts),
        }
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_thread_of_run"], values)
            ended = await connection.execute(self._sql["end_run_if_owned"], values)
            present = await connection.execute(self._sql["status_of_attempt"], values)
            done = await ended.fetchone()
            row = await present.fetchone()
        if done is None and (row is None or row[0] != end.status):
            raise LeaseLost

    async def delete_temporary_thread(self, thread_id: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(self._sql["delete_temporary_thread"], {"thread_id": thread_id})

    async def abandoned_temporary_threads(self, *, older_than_seconds: float) -> list[str]:
        with translated_faults():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    self._sql["abandoned_temporary_threads"], {"seconds": older_than_seconds}
                )
                return [row[0] for row in await cursor.fetchall()]

    async def fail_runs_of_lost_processes(self, error: Mapping[str, str]) -> list[FailedRun]:
        """Mark expired processes lost, then end their runs as ``error`` and free the threads."""
        values = {"error": Jsonb(dict(error))}
        async with self._transaction() as connection:
            await connection.execute(self._sql["mark_expired_processes_lost"])
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_threads_of_lost_runs"])
            cursor = await connection.execute(self._sql["fail_lost_runs"], values)
            await connection.execute(self._sql["forget_lost_processes"])
            rows = await cursor.fetchall()
        return [FailedRun(run_id=row[0], thread_id=row[1], graph_id=row[2]) for row in rows]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A pipelined READ COMMITTED transaction: its statements travel together.

        Results may be fetched inside; the commit has happened on leaving without an exception.
        """
        with translated_faults():
            async with (
                self._pool.connection() as connection,
                connection.pipeline(),
                connection.transaction(),
            ):
                # Another default isolation would act on a snapshot from before the lock.
                await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                await connection.execute(
                    "SELECT set_config('lock_timeout', %s, true)", (self._lock_timeout,)
                )
                yield connection


def _jsonb(value: Mapping[str, Any] | None) -> Jsonb | None:
    return None if value is None else Jsonb(dict(value))
