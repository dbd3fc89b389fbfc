"""The run queue in Postgres: who runs what, in transactions that keep the law of queue.sql.

Starts and ends go through the group-commit writer; taking runs from lost processes has transactions
of its own. Only the worker may import this; everything here is guarded by owner and attempt, not by
tenant.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from psycopg.types.json import Jsonb

from headrace.checkpoints.fence import process_key
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.writer import Writer
from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.errors import ThreadBusy
from headrace.runs.dispatcher import RunRequest, StartedRun
from headrace.runs.transitions import (
    End,
    RunEnd,
    Start,
    ThreadLocked,
    queue_statements,
)

_log = structlog.stdlib.get_logger("headrace.queue")

_LOCKED_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class FailedRun:
    run_id: UUID
    thread_id: str
    graph_id: str


class Queue:
    """Run starts and ends, and what is done about lost processes."""

    def __init__(
        self, pool: SharedPool, writer: Writer, *, lock_timeout_seconds: float = 5.0
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._sql = queue_statements()
        self._lock_timeout_seconds = lock_timeout_seconds

    async def start_if_thread_free(self, request: RunRequest, process_id: UUID) -> StartedRun:
        """Take the thread and insert its run, running, in one transaction.

        :raises ThreadBusy: another run has the thread.
        :raises ThreadNotFound: no such thread for this caller.
        """
        deadline = monotonic() + self._lock_timeout_seconds
        while True:
            try:
                with translated_faults():
                    return cast("StartedRun", await self._writer.commit(Start(request, process_id)))
            except ThreadLocked:
                if monotonic() > deadline:
                    raise ThreadBusy from None
                await asyncio.sleep(_LOCKED_PAUSE_SECONDS)

    async def end_if_owned(
        self,
        *,
        run_id: UUID,
        thread_id: str,
        attempt: int,
        process_id: UUID,
        end: RunEnd,
        run: RunWrites | None = None,
    ) -> None:
        """Write the run's terminal status and free its thread; safe to repeat.

        :param run: what the run has written so far; its end is committed with it or after it.
        :raises LeaseLost: the run is not this process's any more, or ended otherwise.
        :raises BaseException: what one of the run's writes failed with; nothing has ended then.
        """
        if run is not None:
            # Once the run has ended, nothing is written for it any more.
            await run.committed_elsewhere(thread_id)
            run.raise_if_failed()
        await self._writer.commit(
            End(
                run_id=run_id,
                thread_id=thread_id,
                attempt=attempt,
                process_id=process_id,
                end=end,
                run=run,
            )
        )

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
        """Mark expired processes lost, end their runs as ``error`` and free the threads."""
        with translated_faults():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql["processes_to_take_from"])
                processes = [row[0] for row in await cursor.fetchall()]
        failed: list[FailedRun] = []
        for process_id in processes:
            try:
                failed += await self._take_runs_of(process_id, error)
            except LockNotAvailable:
                await self._end_flushes_of(process_id)
                failed += await self._take_runs_of(process_id, error)
        async with self._transaction() as connection:
            await connection.execute(self._sql["forget_lost_processes"])
        return failed

    async def _take_runs_of(self, process_id: UUID, error: Mapping[str, str]) -> list[FailedRun]:
        """The one way to take runs from another process: its lock, then the judgement, then they.

        :raises LockNotAvailable: a flush of it, or another taker, has held the lock for too long.
        """
        values = {
            "process_id": process_id,
            "key": process_key(process_id),
            "error": Jsonb(dict(error)),
        }
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_process"], values)
            await connection.execute(self._sql["mark_process_lost_if_expired"], values)
            await connection.execute(self._sql["lock_threads_of_lost_runs"], values)
            cursor = await connection.execute(self._sql["fail_lost_runs"], values)
            rows = await cursor.fetchall()
        return [FailedRun(run_id=row[0], thread_id=row[1], graph_id=row[2]) for row in rows]

    async def _end_flushes_of(self, process_id: UUID) -> None:
        values = {"process_id": process_id, "key": process_key(process_id)}
        try:
            async with self._transaction() as connection:
                await connection.execute(self._sql["end_flushes_of_expired_process"], values)
        except InsufficientPrivilege:
            _log.warning("flush_of_lost_process_left", process_id=str(process_id))
        else:
            _log.warning("flush_of_lost_process_ended", process_id=str(process_id))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A pipelined READ COMMITTED transaction: its statements travel together.

        Results may be fetched inside; the commit has happened on leaving without an exception.
        """
        with translated_faults(passing=(LockNotAvailable,)):
            async with (
                self._pool.connection() as connection,
                connection.pipeline(),
                connection.transaction(),
            ):
                # Another default isolation would act on a snapshot from before the lock.
                await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                await connection.execute(
                    "SELECT set_config('lock_timeout', %s, true)",
                    (f"{int(self._lock_timeout_seconds * 1000)}ms",),
                )
                yield connection
