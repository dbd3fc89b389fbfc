"""Erases threads with all that belongs to them, beside servers that work.

Idle threads are locked and deleted some at a time. A thread that a process executes a run on is
taken from it as a deletion over HTTP does (threads/removal.py): the run is asked to stop, then the
process is locked out, then the thread is locked, then it is deleted. So a flush that is under way
ends before, and a later one writes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg.errors import DeadlockDetected, LockNotAvailable

from headrace.checkpoints.fence import lock_out
from headrace.db.pool import Connection
from headrace.db.statements import named_statements
from headrace.erasure.subject import Subject

_PAGE = 500
#: Threads that are deleted in one transaction.
_BATCH = 20
#: How long a row or a process is waited for. Meanwhile requests wait behind this one.
_LOCK_TIMEOUT = "2s"
_POLL_SECONDS = 0.1
#: How often a thread that moves from process to process is tried.
_TAKES = 10
#: What is deleted with threads, in this order.
_BELONGING = (
    "idempotency_keys",
    "webhook_deliveries",
    "run_events",
    "checkpoint_writes",
    "checkpoint_blobs",
    "checkpoints",
    "runs",
    "threads",
)


class _TakenAway(Exception):
    """Another process has taken the thread."""


class ThreadErasure:
    """
    :param stop_seconds: how long a run may take to stop, before its thread is taken from it.
    """

    def __init__(self, connection: Connection, subject: Subject, *, stop_seconds: float) -> None:
        self._connection = connection
        self._subject = subject
        self._stop_seconds = stop_seconds
        self._sql = named_statements("headrace.erasure", "erasure.sql")
        #: Deleted rows by table.
        self.erased: Counter[str] = Counter()

    async def run(self) -> None:
        """Erase the threads of the subject. Those that others hold for too long are left."""
        after = ""
        while True:
            values = {"after": after, "limit": _PAGE}
            found = [row[0] for row in await self._rows("page_of_threads", values)]
            if not found:
                return
            after = found[-1]
            for first in range(0, len(found), _BATCH):
                await self._erase(found[first : first + _BATCH])

    async def _erase(self, thread_ids: list[str]) -> None:
        await self._stop(thread_ids)
        async with self.transaction() as connection:
            rows = await self._rows("lock_idle_threads", {"thread_ids": thread_ids})
            idle = [row[0] for row in rows]
            counts = await self._delete(connection, idle) if idle else Counter()
        self.erased += counts
        for thread_id in sorted(set(thread_ids) - set(idle)):
            await self._take(thread_id)

    async def _stop(self, thread_ids: list[str]) -> None:
        """Ask the runs of these threads to stop, and wait for that."""
        asked = [row[0] for row in await self._rows("unfinished_threads", _these(thread_ids))]
        for thread_id in sorted(asked):
            try:
                async with self.transaction() as connection:
                    values = {"thread_id": thread_id}
                    for name in (
                        "lock_thread_to_stop",
                        "forget_pending_runs",
                        "nothing_is_ready",
                        "ask_to_stop",
                    ):
                        await connection.execute(self._sql[name], values)
            except (LockNotAvailable, DeadlockDetected):
                continue  # it is taken below, or left
        deadline = asyncio.get_running_loop().time() + self._stop_seconds
        while asked and asyncio.get_running_loop().time() < deadline:
            asked = [row[0] for row in await self._rows("executed_threads", _these(asked))]
            await asyncio.sleep(_POLL_SECONDS if asked else 0)

    async def _take(self, thread_id: str) -> None:
        """Delete one thread, from the process that executes its run if there is one."""
        for _ in range(_TAKES):
            try:
                async with self.transaction() as connection:
                    counts = await self._take_locked(connection, thread_id)
            except _TakenAway:
                continue
            except (LockNotAvailable, DeadlockDetected):
                await asyncio.sleep(_POLL_SECONDS)
            else:
                self.erased += counts
                return

    async def _take_locked(self, connection: Connection, thread_id: str) -> Counter[str]:
        values = {"thread_id": thread_id}
        owner = await self._rows("owner_of_thread", values)
        if not owner:
            return Counter()
        if owner[0][0] is not None:
            await lock_out(connection, owner[0][0])
        if not await self._rows("lock_thread", values):
            return Counter()
        now = await self._rows("owner_of_locked_thread", values)
        if now and now[0][0] != owner[0][0]:
            raise _TakenAway
        return await self._delete(connection, [thread_id])

    async def _delete(self, connection: Connection, thread_ids: list[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for table in _BELONGING:
            cursor = await connection.execute(self._sql[f"erase_{table}"], _these(thread_ids))
            counts[table] = max(0, cursor.rowcount)
        return counts

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction that waits a short time for each lock."""
        async with self._connection.transaction():
            await self._connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,), prepare=False
            )
            yield self._connection

    async def _rows(self, name: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        given = {**self._subject.values, **values}
        cursor = await self._connection.execute(self._sql[name], given)
        return await cursor.fetchall()


def _these(thread_ids: list[str]) -> dict[str, Any]:
    return {"thread_ids": thread_ids}
