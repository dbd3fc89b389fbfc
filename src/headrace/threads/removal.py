"""Deleting threads, whoever has them; copying them; leaving of them only where they stand.

A thread is taken as a rescuer takes a run: first the lock of the process that executes it, then the
thread, then, in statements of their own, what is to go. A flush in flight is waited for, and a
later one writes nothing for a run that is gone (checkpoints/fence.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure
from psycopg.rows import dict_row

from headrace.auth.principal import Principal
from headrace.checkpoints.copies import copy_thread
from headrace.checkpoints.fence import lock_out
from headrace.checkpoints.run_saver import RunSaver
from headrace.checkpoints.writer import Writer
from headrace.db.faults import translated_faults
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements
from headrace.db.tables import ThreadRow
from headrace.db.transactions import locking_transaction
from headrace.errors import Conflict, RunStillStopping
from headrace.threads.schemas import ThreadsPrune
from headrace.threads.search_repository import row_from
from headrace.threads.service import found

#: Stops the runs of a thread, and waits for that a moment.
StopRuns = Callable[[Principal, str], Awaitable[None]]

#: What has become of a thread that was to be reduced: ``left`` is one whose state is stored step by
#: step, ``disturbed`` one on which a run began meanwhile.
Reduction = Literal["reduced", "left", "disturbed"]

#: How often another process may take the thread between a look and the lock.
_TAKES = 10

#: Runs that are deleted in one statement.
_RUNS_AT_ONCE = 500

_log = structlog.stdlib.get_logger("headrace.threads")


class _Moved(Exception):
    """Another process has taken the thread."""


class ThreadRemoval:
    """
    :param stop_runs: what a run that can be asked is asked before it is taken away.
    :param count_runs: told how many ended runs went while their thread stayed.
    """

    def __init__(
        self,
        pool: SharedPool,
        writer: Writer,
        saver: RunSaver,
        stop_runs: StopRuns,
        *,
        lock_timeout_seconds: float = 5.0,
        count_runs: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._writer = writer
        self._saver = saver
        self._stop_runs = stop_runs
        self._count_runs = count_runs
        self._pool = pool
        self._sql = named_statements("headrace.threads", "removal.sql")
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=lock_timeout_seconds, pipelined=False
        )

    async def delete(self, principal: Principal, thread_id: str) -> None:
        """Delete the thread with its runs, events and checkpoints; a run it has is stopped first.

        :raises ThreadNotFound, InvalidRequest: there is none that the caller may see.
        :raises RunStillStopping: its run is being written for all the time.
        """
        await self._stop_runs(principal, thread_id)
        found(thread_id, await self.delete_if_there(principal, thread_id) or None)

    async def delete_if_there(self, principal: Principal, thread_id: str) -> bool:
        """Take the thread from whoever has it, and delete it; False when it is not there."""
        values = {"thread_id": thread_id, "tenant": principal.tenant}
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

    async def copy(
        self, principal: Principal, thread_id: str, target: str | None = None
    ) -> ThreadRow:
        """A new thread with all checkpoints of another.

        :param target: its id; default: a new UUIDv4.

        :raises Conflict: there is no such thread for the caller.
        """
        values = {
            "source": thread_id,
            "target": target or str(uuid4()),
            "tenant": principal.tenant,
            "owner": principal.identity,
        }
        await self._writer.settled(thread_id)
        async with (
            self._transaction() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(self._sql["copy_thread"], values)
            made = await cursor.fetchone()
            if made is None:
                raise Conflict("Conflict")
            await copy_thread(cursor, thread_id, values["target"])
        return row_from(made)

    async def prune(self, principal: Principal, body: ThreadsPrune) -> int:
        """Delete the threads, or all but their latest checkpoints; tells of how many.

        Reduced are neither threads that a run has nor those whose state is stored step by step
        (DeltaChannel): they would lose what their state is made of.
        """
        pruned = 0
        for thread_id in dict.fromkeys(body.thread_ids):
            if body.strategy == "delete":
                await self._stop_runs(principal, thread_id)
                pruned += await self.delete_if_there(principal, thread_id)
            else:
                pruned += await self._reduce(principal, thread_id)
        return pruned

    async def _reduce(self, principal: Principal, thread_id: str) -> bool:
        async with self._transaction() as connection:
            values = {"thread_id": thread_id, "tenant": principal.tenant}
            if await self._one(connection, "is_at_rest", values) is None:
                return False
        return await self.keep_latest(thread_id) == "reduced"

    async def keep_latest(self, thread_id: str) -> Reduction:
        """Delete all but the latest checkpoints of a thread, where that harms nothing.

        Its ended runs go too, but the newest and those that somebody may still ask for.
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
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(self._sql["delete_ended_runs"], values)
            self._count_runs(cursor.rowcount)
            if cursor.rowcount < _RUNS_AT_ONCE:
                return

    async def _one(
        self, connection: Connection, name: str, values: dict[str, Any]
    ) -> Sequence[Any] | None:
        cursor = await connection.execute(self._sql[name], values)
        row: Sequence[Any] | None = await cursor.fetchone()
        return row
