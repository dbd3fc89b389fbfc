"""The run queue in Postgres: each transition of a run is one transaction.

The transactions obey the law at the top of queue.sql. The group-commit writer commits starts, new
pending runs and ends. Cancels and rollbacks have transactions of their own; so have claims
(claimer.py) and take-overs (takeover.py). Only the worker and the run engine may import this
module. A write for a run needs the run's token (run, attempt, process). A cancel needs a
caller that sees the run.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values
from headrace.checkpoints.deletions import delete_for_runs
from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.operations import Operation
from headrace.checkpoints.run_writes import RunWrites
from headrace.checkpoints.tally import UsageTally
from headrace.checkpoints.usage_rows import StoreUsage
from headrace.checkpoints.writer import Writer
from headrace.db.arrays import Uuid
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection, indexed_rows
from headrace.db.pool import SharedPool
from headrace.db.receipts import Receipts
from headrace.db.repeats import repeated
from headrace.db.statements import statement
from headrace.db.thread_configurations import forgetting
from headrace.db.transactions import locking_transaction
from headrace.errors import LeaseLost, ThreadBusy
from headrace.events.event import RUN_DELETED, stop_error
from headrace.observability.figures import QueueFigures, UnservedGraph
from headrace.queue.claimer import Claimer
from headrace.queue.ends import End, EndedRun, RunEnd, queue_statements
from headrace.queue.ready_callers import ReadyCallers
from headrace.queue.rows import (
    Attempt,
    Cancellation,
    CancelReason,
    QueuedRun,
    RunRequest,
    StopAction,
    StopRequest,
)
from headrace.queue.scope_check import (
    ThreadLocked,
    makes_thread_first,
    needs_check,
    takes_strays,
)
from headrace.queue.starts import CheckedStart, Enqueue, Start
from headrace.queue.takeover import SUSPECT_FAILURES, Takeover
from headrace.unavailable_errors import DatabaseUnavailable

_LOCKED_PAUSE_SECONDS = 0.02
#: The primary key of runs.
_RUN_ID = "runs_pkey"

_COUNTED_PENDING = 10_000
#: For so long at most, a process takes a cron (``crons.retry_seconds``).
_CRON_TAKEN_SECONDS = 60.0
#: A process that restarts executes its graphs again within this time.
_UNSERVED_AFTER_SECONDS = 15.0
#: At most so many graphs without a process are reported: assistants may name any number of graphs.
_UNSERVED_GRAPHS = 20

_FORGET_OF_LOCKED = statement(
    forgetting("SELECT json_array_elements_text(current_setting('headrace.locked')::json)")
)


class Queue:
    """One per process: all transitions of the runs that it starts, queues, claims and ends.

    Claims and take-overs are in :attr:`claimer` and :attr:`takeover`.

    :param suspect_failures: a run that so many processes were lost with is claimed alone.
    :param count_unreadable: called with the graph of each run that ended because its row cannot be
        read.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        *,
        lock_timeout_seconds: float = 5.0,
        suspect_failures: int = SUSPECT_FAILURES,
        count_unreadable: Callable[[str], None] = lambda graph_id: None,
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._sql = queue_statements()
        self._lock_timeout_seconds = lock_timeout_seconds
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds
        )
        self._receipts = Receipts(pool)
        #: Claims runs that wait.
        self.claimer = Claimer(
            pool,
            writer,
            lock_timeout_seconds=lock_timeout_seconds,
            suspect_failures=suspect_failures,
            count_unreadable=count_unreadable,
        )
        #: Takes runs from lost processes.
        self.takeover = Takeover(pool, lock_timeout_seconds=lock_timeout_seconds)
        #: The callers whose runs wait.
        self.callers = ReadyCallers(pool, suspect_failures=suspect_failures)

    async def start_run_if_free(self, request: RunRequest, process_id: UUID) -> Attempt:
        """Take the thread and insert its run, running, in one transaction.

        :raises ThreadBusy: another run has the thread; or the run exists, and another process has
            it. Then :meth:`enqueue` finds it.
        :raises ThreadNotFound: the caller sees no such thread.
        :raises AssistantChanged: the assistant is not as the request knows it.
        :raises RunForgotten: an earlier request with the key has made the run, which is gone.
        """
        checked = (
            request.key is not None
            or needs_check(request)
            or makes_thread_first(request)
            or (request.create_thread and not takes_strays(request))
        )
        start = partial(CheckedStart if checked else Start, request, process_id)
        try:
            return cast("Attempt", await self._commit_unlocked(start))
        except UniqueViolation as error:
            if error.diag.constraint_name != _RUN_ID:
                raise
            # An earlier try has made the run, and its answer was lost. Meanwhile the run was taken
            # from this process, and has ended.
            raise ThreadBusy from error

    async def enqueue(self, request: RunRequest) -> QueuedRun:
        """Insert the run, pending, and apply its strategy to the runs before it.

        :raises ThreadBusy: the strategy is ``reject``, and another run has the thread or waits.
        :raises ThreadNotFound, AssistantChanged, RunForgotten: as :meth:`start_run_if_free`.
        :raises SlotTaken: the slot of its cron is not free, or another transaction has the cron.
        """
        return cast("QueuedRun", await self._commit_unlocked(partial(Enqueue, request)))

    async def _commit_unlocked(self, make: Callable[[], Operation]) -> Any:
        """Commit the operation once no other transaction has locked its thread.

        :raises ThreadBusy: the thread stays locked for longer than the lock timeout.
        """
        deadline = monotonic() + self._lock_timeout_seconds
        while True:
            try:
                with translated_faults():
                    return await self._writer.commit(make())
            except ThreadLocked:
                if monotonic() > deadline:
                    raise ThreadBusy from None
                await asyncio.sleep(_LOCKED_PAUSE_SECONDS)

    async def cancel(
        self,
        principal: Principal,
        run_ids: Sequence[UUID],
        action: StopAction,
        message: str,
        reason: CancelReason,
        note: str | None = None,
    ) -> list[Cancellation]:
        """End or remove waiting runs. Ask the processes that execute the others to stop them.

        :param message: a sentence, for the errors of waiting runs.
        :param note: why, in the words of the client who asks; for the rows.
        :returns: a result for each of ``run_ids``, in this order.
        :raises DatabaseUnavailable: another transaction held a lock for too long; or the database
            went away. Nothing has changed.
        :raises OutcomeUnknown: the database went away at the end.
        """
        values = {
            **scope_values(principal),
            "run_ids": list(run_ids),
            "action": action,
            "reason": reason,
            "note": note,
            "error": Jsonb(RUN_DELETED if action == "delete" else stop_error(message, note)),
        }

        async def cancelled() -> list[Any]:
            async with self._receipts.kept(self._transaction()) as connection:
                await connection.execute(self._sql["lock_threads_of_cancelled"], values)
                await connection.execute(self._sql["remember_cancelled"], values)
                found = await connection.execute(self._sql["cancel_remembered_runs"], values)
                if action == "rollback":
                    await connection.execute(_FORGET_OF_LOCKED, prepare=False)
                await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
                return await found.fetchall()

        try:
            rows = await repeated(cancelled, seconds=self._pool.away_timeout_seconds)
        except LockNotAvailable as error:
            raise DatabaseUnavailable from error
        by_id = {row[0]: Cancellation(*row) for row in rows}
        return [by_id.get(run_id, Cancellation(run_id, "", "unknown")) for run_id in run_ids]

    async def attempts_of(self, process_id: UUID) -> list[tuple[RunToken, str]]:
        """The runs that this process executes according to their rows: token and thread of each."""
        rows = await self._rows("runs_of_process", {"process_id": process_id})
        return [
            (RunToken(run_id, attempt, process_id), thread_id)
            for run_id, thread_id, attempt in rows
        ]

    async def graphs_served_elsewhere(
        self, process_id: UUID, graph_ids: Sequence[str]
    ) -> Collection[str]:
        """Those of ``graph_ids`` that another process executes.

        Note as well that the process ``process_id`` executes none from now on.
        """
        values = {"process_id": process_id, "graph_ids": list(graph_ids)}
        return {row[0] for row in await self._rows("retire_process", values)}

    async def requests_to(
        self, process_ids: Collection[UUID]
    ) -> dict[UUID, tuple[StopRequest | None, bool]]:
        """Requests of other processes about the runs that these processes execute.

        For each run: the request to stop it, if there is one, and whether another process wants its
        events. Runs without a request are left out.
        """
        values = {"process_ids": Uuid(sorted(process_ids))}
        rows = await self._rows("requests_to_processes", values)
        return {run_id: (_stop_request(asked), watched) for run_id, watched, *asked in rows}

    async def stop_request(self, run_id: UUID) -> StopRequest | None:
        """The request to stop a run, as its row has it; None if there is none, or no row."""
        rows = await self._rows("stop_request_of_run", {"run_id": run_id})
        return _stop_request(rows[0]) if rows else None

    async def figures(self) -> QueueFigures:
        """How many runs, due crons and messages of webhooks wait, and for how long."""
        ((pending, oldest),) = await self._rows("queue_figures", {"bound": _COUNTED_PENDING})
        unserved = []
        if oldest is not None and oldest > _UNSERVED_AFTER_SECONDS:
            unserved = await self._rows(
                "unserved_graphs",
                {
                    "seconds": _UNSERVED_AFTER_SECONDS,
                    "bound": _COUNTED_PENDING,
                    "graphs": _UNSERVED_GRAPHS,
                },
            )
        values = {"bound": _COUNTED_PENDING, "seconds": _CRON_TAKEN_SECONDS}
        ((overdue, overdue_seconds),) = await self._rows("overdue_crons", values)
        bound = {"bound": _COUNTED_PENDING}
        ((webhooks, webhooks_seconds),) = await self._rows("overdue_webhooks", bound)
        return QueueFigures(
            pending=pending,
            oldest_ready_seconds=oldest or 0.0,
            crons_overdue=overdue,
            oldest_cron_overdue_seconds=overdue_seconds,
            webhooks_overdue=webhooks,
            oldest_webhook_overdue_seconds=webhooks_seconds,
            unserved=tuple(UnservedGraph(*row) for row in unserved),
        )

    async def end_if_owned(
        self,
        token: RunToken,
        thread_id: str,
        end: RunEnd,
        *,
        run: RunWrites | None = None,
        usage: UsageTally | None = None,
    ) -> EndedRun:
        """Write the run's final status and free its thread. Safe to repeat.

        With :data:`RELEASED` the run is pending again, and any process may claim it.

        :param run: the writes of the run. The end is committed with the last of them, or later.
        :param usage: the model calls of the run, committed with the end.
        :raises LeaseLost: this process no longer has the run, or the run has another end.
        :raises StopAsked: the run was asked to stop, so it must have another end.
        :raises BaseException: the error of one of the run's writes. The run has not ended.
        """
        if run is not None:
            # After the end of a run, the fence refuses its writes.
            await run.committed_elsewhere(thread_id)
            run.raise_if_failed()
        await self._writer.queue_usage(usage)
        operation = End(token, thread_id, end, run=run)
        return cast("EndedRun", await self._writer.commit(operation))

    async def roll_back_if_owned(
        self, token: RunToken, thread_id: str, *, usage: UsageTally | None = None
    ) -> StopRequest | None:
        """Delete the run and its checkpoints. The thread is again as it was before the run.

        No write of the run may be under way.

        :param usage: the model calls of the run, committed before: they were made.
        :returns: the request to stop it; None if its row has none.
        :raises LeaseLost: this process no longer has the run.
        :raises NotImplementedError: the checkpoints cannot be deleted: later checkpoints are stored
            as changes to them.
        """
        values = {
            "thread_id": thread_id,
            "run_id": token.run_id,
            "attempt": token.attempt,
            "process_id": token.process_id,
        }
        await self._commit_usage(usage)
        async with self._transaction(pipelined=False) as connection:
            await connection.execute(self._sql["lock_thread_of_run"], values)
            removed = await connection.execute(self._sql["remove_run_if_owned"], values)
            row = await removed.fetchone()
            if row is None:
                raise LeaseLost
            async with connection.cursor(row_factory=dict_row) as cursor:
                await delete_for_runs(cursor, [str(token.run_id)], thread_id=thread_id)
            await connection.execute(_FORGET_OF_LOCKED, prepare=False)
            await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
        return _stop_request(row)

    async def _commit_usage(self, usage: UsageTally | None) -> None:
        if usage is None or not usage.changed:
            return
        # If the database refuses the row, the writer logs that, and the run is deleted anyway.
        with suppress(psycopg.Error):
            await self._writer.commit(StoreUsage(usage))

    async def interrupt_instead_of_rollback(self, token: RunToken) -> None:
        """Mark a run that cannot be rolled back, so that it is interrupted instead."""
        values = {
            "run_id": token.run_id,
            "attempt": token.attempt,
            "process_id": token.process_id,
        }
        with translated_faults():
            async with indexed_connection(self._pool) as connection:
                await connection.execute(self._sql["keep_run_that_was_to_be_rolled_back"], values)

    async def delete_temporary_threads(
        self, thread_ids: Sequence[str], *, watched: bool = True
    ) -> None:
        """Delete temporary threads whose runs have ended, with their runs and checkpoints.

        :param watched: also delete threads of runs that another process still watches.
        """
        values = {"thread_ids": sorted(thread_ids), "watched": watched}
        async with self._transaction() as connection:
            await connection.execute(self._sql["delete_temporary_threads"], values)
            await connection.execute(self._sql["delete_checkpoints_of_locked"], prepare=False)
            await connection.execute(self._sql["delete_blobs_of_locked"], prepare=False)
            await connection.execute(self._sql["delete_writes_of_locked"], prepare=False)

    async def abandoned_temporary_threads(
        self, *, older_than_seconds: float, after: str = ""
    ) -> list[str]:
        """A page of ids of temporary threads that a lost process has left, in order.

        :param older_than_seconds: how long ago the row of the thread was last changed, at least.
        :param after: the last id of the page before.
        """
        values = {"seconds": older_than_seconds, "after": after}
        rows = await self._rows("abandoned_temporary_threads", values)
        return [row[0] for row in rows]

    async def _rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with translated_faults():
            return await indexed_rows(self._pool, self._sql[statement], values)


def _stop_request(columns: Sequence[Any]) -> StopRequest | None:
    """From action, reason and note of a row."""
    action, reason, note = columns
    return None if action is None else StopRequest(action, reason, note)
