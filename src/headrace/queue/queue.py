"""The run queue in Postgres: who runs what, in transactions that keep the law of queue.sql.

Starts, queueing and ends go through the group-commit writer; claims, cancels and roll-backs have
transactions of their own. Only the worker may import this; everything here is guarded by owner and
attempt, and only what callers ask for by tenant.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, cast
from uuid import UUID

import structlog
from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from headrace.checkpoints.deletions import delete_for_runs
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.operations import Operation
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.writer import Writer
from headrace.db.arrays import Uuid
from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.db.transactions import locking_transaction
from headrace.errors import DatabaseUnavailable, LeaseLost, ThreadBusy, Unavailable
from headrace.events.event import RUN_DELETED
from headrace.observability.figures import QueueFigures, UnservedGraph
from headrace.queue.ends import End, EndedRun, RunEnd, queue_statements
from headrace.queue.ready_callers import CallerRuns, ReadyCallers
from headrace.queue.rows import (
    Attempt,
    Cancellation,
    QueuedRun,
    RunRequest,
    StopAction,
    claimed_attempt,
)
from headrace.queue.starts import Enqueue, Start, ThreadLocked
from headrace.queue.takeover import Takeover

_log = structlog.stdlib.get_logger("headrace.queue")

_LOCKED_PAUSE_SECONDS = 0.02

#: Threads become ready in the order of their transactions' beginnings, and visible in that of their
#: ends: a claim looks back that far behind the last one.
_OVERLAP = timedelta(seconds=5)
#: And this often from the very start, for whatever took longer.
_LOOK_AT_ALL_SECONDS = 5.0
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)

#: The end of a run whose row somebody else has written, or damaged.
_UNREADABLE = RunEnd(
    "error",
    "error",
    {"error": "RunUnreadable", "message": "The row of this run does not say what to execute."},
)

_COUNTED_PENDING = 10_000
#: Within this time a process that restarts serves its graphs again.
_UNSERVED_AFTER_SECONDS = 15.0
#: So many graphs that nobody serves are told by name: callers' assistants may name any number.
_TOLD_GRAPHS = 20


@dataclass(frozen=True, slots=True)
class Suspects:
    """Runs that processes were lost with, and that wait to be executed apart from others."""

    waiting_seconds: float
    #: Processes that execute one apart from others.
    executing: int
    processes: int
    #: Of those, the ones that are older than the process that asked.
    older: int


class Queue:
    """Every transition of a run that this process starts, waits for, executes or ends."""

    def __init__(
        self, pool: SharedPool, writer: Writer, *, lock_timeout_seconds: float = 5.0
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._sql = queue_statements()
        self._lock_timeout_seconds = lock_timeout_seconds
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds
        )
        self._last_ready: datetime | None = None
        self._looked_at_all = float("-inf")
        #: What is done about processes that are gone.
        self.takeover = Takeover(pool, lock_timeout_seconds=lock_timeout_seconds)
        #: Whose runs wait.
        self.callers = ReadyCallers(pool)

    async def start_run_if_free(self, request: RunRequest, process_id: UUID) -> Attempt:
        """Take the thread and insert its run, running, in one transaction.

        :raises ThreadBusy: another run has the thread.
        :raises ThreadNotFound: no such thread for this caller.
        """
        start = partial(Start, request, process_id)
        return cast("Attempt", await self._commit_unlocked(start))

    async def enqueue(self, request: RunRequest) -> QueuedRun:
        """Insert the run, pending, and do to those before it what its strategy says.

        :raises ThreadBusy: the strategy is ``reject``, and another run has the thread or waits.
        :raises ThreadNotFound: no such thread for this caller.
        """
        return cast("QueuedRun", await self._commit_unlocked(partial(Enqueue, request)))

    async def _commit_unlocked(self, make: Callable[[], Operation]) -> Any:
        """Commit it as soon as nobody else works on its thread."""
        deadline = monotonic() + self._lock_timeout_seconds
        while True:
            try:
                with translated_faults():
                    return await self._writer.commit(make())
            except ThreadLocked:
                if monotonic() > deadline:
                    raise ThreadBusy from None
                await asyncio.sleep(_LOCKED_PAUSE_SECONDS)

    async def claim(self, process_id: UUID, graph_ids: Sequence[str], limit: int) -> list[Attempt]:
        """Take up to ``limit`` runs that may run now, the longest ready first."""
        whole = monotonic() - self._looked_at_all > _LOOK_AT_ALL_SECONDS
        floor = _SINCE_EVER if whole or self._last_ready is None else self._last_ready - _OVERLAP
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "limit": limit,
            "floor": floor,
        }
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_ready_threads"], values, prepare=True)
            found = await connection.execute(
                self._sql["claim_runs_of_locked_threads"], values, prepare=True
            )
            rows = await found.fetchall()
        if whole and len(rows) < limit:
            self._looked_at_all = monotonic()
        if rows and (self._last_ready is None or rows[-1][-1] > self._last_ready):
            self._last_ready = rows[-1][-1]
        return await self._readable(rows, process_id)

    async def claim_for_callers(
        self, process_id: UUID, graph_ids: Sequence[str], wanted: Sequence[CallerRuns]
    ) -> list[Attempt]:
        """Take the longest ready runs of each caller, as many as ``wanted`` says."""
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "callers": [one.caller for one in wanted],
            "floors": [one.first_ready for one in wanted],
            "turns": [one.runs for one in wanted],
        }
        async with self._transaction() as connection:
            await connection.execute(
                self._sql["lock_ready_threads_of_callers"], values, prepare=True
            )
            found = await connection.execute(
                self._sql["claim_runs_of_locked_threads"], values, prepare=True
            )
            rows = await found.fetchall()
        return await self._readable(rows, process_id)

    async def _readable(self, rows: Sequence[Any], process_id: UUID) -> list[Attempt]:
        """The runs of these rows; one that cannot be read ends, and the others go on."""
        claimed: list[Attempt] = []
        for row in rows:
            try:
                claimed.append(claimed_attempt(process_id, *row[:-1]))
            except Exception:
                token, thread_id = RunToken(row[0], row[9], process_id), row[1]
                _log.exception("claimed_run_unreadable", run_id=str(row[0]), thread_id=thread_id)
                # Where that is not to be had, its process finds it among those it does not know.
                with suppress(LeaseLost, Unavailable):
                    await self.end_if_owned(token, thread_id, _UNREADABLE)
        return claimed

    async def suspects(
        self, process_id: UUID, graph_ids: Sequence[str], *, apart_seconds: float
    ) -> Suspects | None:
        """Those that :meth:`claim_suspect` could take; None when there are none."""
        values = {
            "process_id": process_id,
            "graph_ids": list(graph_ids),
            "apart_seconds": apart_seconds,
        }
        rows = await self._rows("look_for_suspects", values)
        return Suspects(*rows[0]) if rows else None

    async def claim_suspect(self, process_id: UUID, graph_ids: Sequence[str]) -> list[Attempt]:
        """Take the run that has waited longest of those that processes were lost with, if any."""
        values = {"process_id": process_id, "graph_ids": list(graph_ids)}
        async with self._transaction() as connection:
            await connection.execute(self._sql["lock_thread_of_suspect"], values)
            found = await connection.execute(self._sql["claim_runs_of_locked_threads"], values)
            rows = await found.fetchall()
        return await self._readable(rows, process_id)

    async def cancel(
        self, tenant: str, run_ids: Sequence[UUID], action: StopAction, reason: str
    ) -> list[Cancellation]:
        """End or remove those that wait; ask the owners of those that run."""
        values = {
            "tenant": tenant,
            "run_ids": list(run_ids),
            "action": action,
            "error": Jsonb(
                RUN_DELETED if action == "delete" else {"error": "UserInterrupt", "message": reason}
            ),
        }
        try:
            async with self._transaction() as connection:
                await connection.execute(self._sql["lock_threads_of_cancelled"], values)
                await connection.execute(self._sql["remember_cancelled"], values)
                found = await connection.execute(self._sql["cancel_remembered_runs"], values)
                await connection.execute(self._sql["refresh_locked_threads"])
                rows = await found.fetchall()
        except LockNotAvailable as error:
            raise DatabaseUnavailable from error
        by_id = {row[0]: Cancellation(*row) for row in rows}
        return [by_id.get(run_id, Cancellation(run_id, "", "unknown")) for run_id in run_ids]

    async def attempts_of(self, process_id: UUID) -> list[tuple[RunToken, str]]:
        """What this process executes according to the rows: tokens, and the runs' threads."""
        rows = await self._rows("runs_of_process", {"process_id": process_id})
        return [
            (RunToken(run_id, attempt, process_id), thread_id)
            for run_id, thread_id, attempt in rows
        ]

    async def requests_to(
        self, process_ids: Collection[UUID]
    ) -> dict[UUID, tuple[StopAction | None, bool]]:
        """What other processes ask of the runs that these processes execute.

        By run: how to stop, and whether events are wanted. A run of which nothing is asked is left
        out.
        """
        values = {"process_ids": Uuid(sorted(process_ids))}
        rows = await self._rows("requests_to_processes", values)
        return {run_id: (action, watched) for run_id, action, watched in rows}

    async def figures(self) -> QueueFigures:
        """How much waits, and for how long."""
        ((pending, oldest),) = await self._rows("queue_figures", {"bound": _COUNTED_PENDING})
        unserved = []
        if oldest is not None and oldest > _UNSERVED_AFTER_SECONDS:
            unserved = await self._rows(
                "unserved_graphs",
                {
                    "seconds": _UNSERVED_AFTER_SECONDS,
                    "bound": _COUNTED_PENDING,
                    "graphs": _TOLD_GRAPHS,
                },
            )
        return QueueFigures(
            pending=pending,
            oldest_ready_seconds=oldest or 0.0,
            unserved=tuple(UnservedGraph(*row) for row in unserved),
        )

    async def end_if_owned(
        self, token: RunToken, thread_id: str, end: RunEnd, *, run: RunWrites | None = None
    ) -> EndedRun:
        """Write the run's terminal status and free its thread; safe to repeat.

        With :data:`RELEASED` the run is pending again, for any process to go on with.

        :param run: what the run has written so far; its end is committed with it or after it.
        :raises LeaseLost: the run is not this process's any more, or ended otherwise.
        :raises StopAsked: it was asked to stop, and must end as that.
        :raises BaseException: what one of the run's writes failed with; nothing has ended then.
        """
        if run is not None:
            # Once the run has ended, nothing is written for it any more.
            await run.committed_elsewhere(thread_id)
            run.raise_if_failed()
        operation = End(token, thread_id, end, run=run)
        return cast("EndedRun", await self._writer.commit(operation))

    async def roll_back_if_owned(self, token: RunToken, thread_id: str) -> None:
        """Delete what the run has left, and the run; its thread is what it was before it.

        Whatever the run wrote must have settled.

        :raises LeaseLost: the run is not this process's any more.
        :raises NotImplementedError: later checkpoints are stored as changes to its own.
        """
        values = {
            "run_ids": [token.run_id],
            "thread_ids": [thread_id],
            "run_id": token.run_id,
            "attempt": token.attempt,
            "process_id": token.process_id,
        }
        async with self._transaction(pipelined=False) as connection:
            await connection.execute(self._sql["lock_threads_of_runs"], values)
            removed = await connection.execute(self._sql["remove_run_if_owned"], values)
            if await removed.fetchone() is None:
                raise LeaseLost
            async with connection.cursor(row_factory=dict_row) as cursor:
                await delete_for_runs(cursor, [str(token.run_id)], thread_id=thread_id)
            await connection.execute(self._sql["refresh_locked_threads"])

    async def keep_rolled_back(self, token: RunToken) -> None:
        """The run cannot be rolled back: it is interrupted instead, and shown as that."""
        values = {
            "run_id": token.run_id,
            "attempt": token.attempt,
            "process_id": token.process_id,
        }
        with translated_faults():
            async with self._pool.connection() as connection:
                await connection.execute(self._sql["keep_run_that_was_to_be_rolled_back"], values)

    async def delete_temporary_threads(
        self, thread_ids: Sequence[str], *, watched: bool = True
    ) -> None:
        """Delete threads that were made for runs which are over, with all that is theirs.

        :param watched: also those of whose runs another process reads events.
        """
        values = {"thread_ids": sorted(thread_ids), "watched": watched}
        async with self._transaction() as connection:
            await connection.execute(self._sql["delete_temporary_threads"], values)
            await connection.execute(self._sql["delete_checkpoints_of_locked"])
            await connection.execute(self._sql["delete_blobs_of_locked"])
            await connection.execute(self._sql["delete_writes_of_locked"])

    async def abandoned_temporary_threads(
        self, *, older_than_seconds: float, after: str = ""
    ) -> list[str]:
        """A page of them, in the order of their ids."""
        values = {"seconds": older_than_seconds, "after": after}
        rows = await self._rows("abandoned_temporary_threads", values)
        return [row[0] for row in rows]

    async def _rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with translated_faults():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql[statement], values)
                return await cursor.fetchall()
