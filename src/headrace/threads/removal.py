"""Removal of threads, even while a process executes one of their runs, and of old checkpoints.

A removal takes a thread as a rescuer takes a run: first it takes the lock of the process that
executes the thread's run, then it locks the thread, then it deletes. So it waits for a flush that
this process has begun. A later flush writes nothing for a deleted run (checkpoints/fence.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal
from uuid import UUID

import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values, scoped_statements
from headrace.checkpoints.fence import lock_out
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.writer import Writer
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection
from headrace.db.pool import Connection, SharedPool
from headrace.db.thread_configurations import forget_configurations
from headrace.db.transactions import locking_transaction
from headrace.threads.repository import found
from headrace.threads.run_stops import RunStops
from headrace.threads.schemas import ThreadFilter, ThreadsPrune
from headrace.threads.search_repository import ThreadSearchRepository
from headrace.threads.search_sql import Order
from headrace.unavailable_errors import RunStillStopping

#: The result of reducing a thread. ``left``: its state is stored step by step (DeltaChannel), so it
#: keeps all checkpoints. ``disturbed``: a run began on the thread meanwhile.
Reduction = Literal["reduced", "left", "disturbed"]

#: A removal fails when other processes take the thread this often between its look and its lock.
_TAKES = 10

#: Runs that are deleted in one statement.
_RUNS_AT_ONCE = 500

#: How many threads of an assistant are looked up at once, and how many bytes their rows may have.
#: Each thread is deleted in a separate transaction.
_PAGE, _PAGE_BYTES = 100, 1024 * 1024

_log = structlog.stdlib.get_logger("headrace.threads")


class _Moved(Exception):
    """Another process has taken the thread."""


class ThreadRemoval:
    """
    :param stops: asks the runs of a thread to stop before the thread is taken from their process.
    :param count_runs: called with the number of ended runs that were deleted while their thread
        stayed.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        saver: RunSaver,
        stops: RunStops,
        search: ThreadSearchRepository,
        *,
        lock_timeout_seconds: float = 5.0,
        count_runs: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._writer = writer
        self._saver = saver
        self._stops = stops
        self._search = search
        self._count_runs = count_runs
        self._pool = pool
        self._sql = scoped_statements("headrace.threads", "removal.sql")
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds, pipelined=False
        )

    async def delete(self, principal: Principal, thread_id: str) -> None:
        """Stop the runs of the thread, then delete it with its runs, events and checkpoints.

        :raises ThreadNotFound, InvalidRequest: the caller may see no such thread.
        :raises RunStillStopping: the process that executes its run still writes for it.
        """
        found(thread_id, await self._stop_and_delete(principal, thread_id) or None)

    async def delete_all_of_assistant(self, principal: Principal, assistant_id: UUID) -> None:
        """Delete the threads whose last run used the assistant.

        :raises RunStillStopping: the run of a thread does not stop; earlier threads are deleted.
        """
        wanted = ThreadFilter(metadata={"assistant_id": str(assistant_id)})
        while True:
            page = await self._search.page(
                principal, wanted, Order(), limit=_PAGE, offset=0, max_bytes=_PAGE_BYTES
            )
            if not page.rows:
                return
            for row in page.rows:
                await self._stop_and_delete(principal, row.thread_id)

    async def _stop_and_delete(self, principal: Principal, thread_id: str) -> bool:
        await self._stops.stop_all_of(principal, thread_id)
        return await self.delete_if_there(principal, thread_id)

    async def delete_if_there(self, principal: Principal, thread_id: str) -> bool:
        """Take the thread from the process that executes its run, and delete it.

        :returns: False when the caller may see no such thread.

        :raises RunStillStopping: as :meth:`delete`.
        """
        values = {"thread_id": thread_id, **scope_values(principal)}
        for _ in range(_TAKES):
            await self._writer.settled(thread_id)
            try:
                async with self._transaction() as connection:
                    return await self._delete(connection, values)
            except _Moved:
                continue
            except LockNotAvailable as error:
                raise RunStillStopping from error
        raise RunStillStopping

    async def _delete(self, connection: Connection, values: dict[str, Any]) -> bool:
        owner = await self._one(connection, "owner_of_thread", values)
        if owner is None:
            return False
        if owner[0] is not None:
            await lock_out(connection, owner[0])
        if await self._one(connection, "lock_thread", values) is None:
            return False
        now = await self._one(connection, "owner_of_locked_thread", values)
        if now is not None and now[0] != owner[0]:
            raise _Moved
        for name in ("delete_events", "delete_writes", "delete_blobs", "delete_checkpoints"):
            await connection.execute(self._sql[name], values)
        await connection.execute(self._sql["delete_thread"], values)
        return True

    async def prune(self, principal: Principal, body: ThreadsPrune) -> int:
        """Delete the threads, or all but their latest checkpoints; returns the number of threads.

        A busy thread keeps all its checkpoints. So does a thread whose state is stored step by step
        (DeltaChannel): its state is made of all of them.

        :raises RunStillStopping: as :meth:`delete`.
        """
        pruned = 0
        for thread_id in dict.fromkeys(body.thread_ids):
            if body.strategy == "delete":
                pruned += await self._stop_and_delete(principal, thread_id)
            else:
                pruned += await self._reduce(principal, thread_id)
        return pruned

    async def _reduce(self, principal: Principal, thread_id: str) -> bool:
        async with self._transaction() as connection:
            values = {"thread_id": thread_id, **scope_values(principal)}
            if await self._one(connection, "is_at_rest", values) is None:
                return False
        return await self.keep_latest(thread_id) == "reduced"

    async def keep_latest(self, thread_id: str) -> Reduction:
        """Delete all but the latest checkpoints of a thread, unless it needs them.

        Its ended runs are deleted too, except the newest run and the runs that a client may still
        ask for.
        """
        reduction = await self._keep_latest_checkpoints(thread_id)
        if reduction != "disturbed":
            await self._keep_newest_run(thread_id)
        return reduction

    async def _keep_latest_checkpoints(self, thread_id: str) -> Reduction:
        try:
            with translated_faults(passing=(SerializationFailure, DeadlockDetected)):
                await self._saver.aprune([thread_id], strategy="keep_latest")
        except NotImplementedError:
            return "left"
        except (SerializationFailure, DeadlockDetected):
            # A run has begun to write meanwhile.
            _log.info("thread_not_reduced", thread_id=thread_id)
            return "disturbed"
        return "reduced"

    async def _keep_newest_run(self, thread_id: str) -> None:
        values = {"thread_id": thread_id, "limit": _RUNS_AT_ONCE}
        while True:
            with translated_faults():
                async with indexed_connection(self._pool) as connection:
                    cursor = await connection.execute(self._sql["delete_ended_runs"], values)
            self._count_runs(cursor.rowcount)
            if cursor.rowcount < _RUNS_AT_ONCE:
                break
        # The configuration may be another run's: clocks of processes differ, and so do ids.
        with translated_faults():
            async with indexed_connection(self._pool) as connection:
                await forget_configurations(connection, [thread_id])

    async def _one(
        self, connection: Connection, name: str, values: dict[str, Any]
    ) -> Sequence[Any] | None:
        cursor = await connection.execute(self._sql[name], values)
        row: Sequence[Any] | None = await cursor.fetchone()
        return row
