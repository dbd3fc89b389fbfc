"""Threads whose time is over are deleted, or reduced to where they stand; any process may sweep.

A thread's time is counted from its last use. Nobody's thread is taken away from a run: busy ones
are looked at again later, and what is locked was judged under that lock.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog
from psycopg.errors import LockNotAvailable

from headrace.db.faults import translated_faults
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements
from headrace.db.transactions import locking_transaction
from headrace.errors import Unavailable
from headrace.graphs.persistence_entries import TtlEntry
from headrace.isolation import for_each_sound
from headrace.threads.removal import ThreadRemoval

_log = structlog.stdlib.get_logger("headrace.threads")

#: Threads that one transaction locks, and may delete: a start of a run waits no longer for it.
_BATCH = 50
_LOCK_TIMEOUT_SECONDS = 2.0
#: Threads of one round that may fail: more of them are the database's trouble, not theirs.
_MOST_DISTURBED = 5
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Swept:
    """What a round has done with how many threads; ``left`` would have lost their state."""

    looked_at: int = 0
    deleted: int = 0
    reduced: int = 0
    left: int = 0


class RetentionSweeper:
    """One per process; any number may sweep at once.

    :param count: told of ``deleted``, ``reduced`` or ``left``, and of how many threads.
    """

    def __init__(
        self,
        pool: SharedPool,
        removal: ThreadRemoval,
        entry: TtlEntry,
        *,
        count: Callable[[str, int], None],
    ) -> None:
        self._pool = pool
        self._removal = removal
        self._entry = entry
        self._count = count
        self._sql = named_statements("headrace.threads", "retention.sql")
        #: Up to when threads of a tenant are planned; a new process begins with the oldest.
        self._planned: dict[str, datetime] = {}

    async def sweep_forever(self) -> None:
        seconds = self._entry.sweep_interval_minutes * 60
        while True:
            # Processes that started together need not sweep together.
            await asyncio.sleep(seconds * random.uniform(0.7, 1.3))  # noqa: S311
            try:
                swept = await self.sweep()
            except Unavailable as fault:
                _log.warning("threads_kept_longer", cause=fault.code)
            else:
                if swept.deleted or swept.reduced:
                    _log.info("threads_expired", deleted=swept.deleted, reduced=swept.reduced)

    async def sweep(self) -> Swept:
        """One round: at most ``sweep_limit`` threads are looked at.

        :raises Unavailable: the database could not be reached; what was deleted stays deleted.
        """
        await self._plan()
        swept, disturbed = Swept(), 0
        while swept.looked_at < self._entry.sweep_limit:
            wanted = min(_BATCH, self._entry.sweep_limit - swept.looked_at)
            try:
                verdicts = await self._judge_and_delete(wanted)
            except LockNotAvailable:
                break
            swept.looked_at += len(verdicts)
            swept.deleted += self._counted("deleted", _with(verdicts, "delete"))
            for thread_id in _with(verdicts, "reduce"):
                try:
                    await self._reduce(thread_id, swept)
                except Exception as fault:
                    # One that cannot be reduced, too large or unreadable, must not keep the others.
                    _log.warning("thread_not_reduced", thread_id=thread_id, exc_info=fault)
                    disturbed += 1
                    if disturbed > _MOST_DISTURBED:
                        raise
            if len(verdicts) < wanted:
                break
        return swept

    async def _plan(self) -> None:
        """Have threads looked at that go by the default and are old enough for it."""
        if self._entry.default_ttl is None:
            return
        left = self._entry.sweep_limit
        for (tenant,) in await self._rows("tenants", {}):
            since = self._planned.get(tenant, _SINCE_EVER)
            ((planned, last),) = await self._rows(
                "plan_unplanned",
                {
                    "tenant": tenant,
                    "since": since,
                    "ttl_minutes": self._entry.default_ttl,
                    "limit": left,
                },
            )
            if last is not None:
                self._planned[tenant] = last
            left -= planned
            if left <= 0:
                break

    async def _judge_and_delete(self, limit: int) -> list[tuple[str, str]]:
        """Threads and verdicts; those that are to be deleted are."""
        values = {
            "limit": limit,
            "strategy": self._entry.strategy,
            "ttl_minutes": self._entry.default_ttl,
        }
        async with locking_transaction(
            self._pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pipelined=False
        ) as connection:
            await connection.execute(self._sql["lock_due"], values)
            cursor = await connection.execute(self._sql["judge_locked"], values)
            verdicts = [(row[0], row[1]) for row in await cursor.fetchall()]
            if expired := _with(verdicts, "delete"):
                refused = await self._delete(connection, expired)
                verdicts = [
                    (one, "refused" if one in refused else verdict) for one, verdict in verdicts
                ]
        return verdicts

    async def _delete(self, connection: Connection, thread_ids: list[str]) -> set[str]:
        """Delete threads and all that is theirs; those that cannot be deleted, for now.

        A table of the user's may refer to one of them, and must not keep all the others.
        """

        async def delete(some: Sequence[str]) -> None:
            async with connection.transaction():
                for name in (
                    "delete_events",
                    "delete_writes",
                    "delete_blobs",
                    "delete_checkpoints",
                    "delete_threads",
                ):
                    await connection.execute(self._sql[name], {"thread_ids": list(some)})

        failed = await for_each_sound(thread_ids, delete, passing=(psycopg.OperationalError,))
        for thread_id, error in failed:
            _log.warning("thread_not_deleted", thread_id=thread_id, exc_info=error)
        refused = [thread_id for thread_id, _ in failed]
        if refused:
            await connection.execute(self._sql["postpone"], {"thread_ids": refused})
        return set(refused)

    async def _reduce(self, thread_id: str, swept: Swept) -> None:
        """What fails here is tried again when its thread is looked at next."""
        done = await self._removal.keep_latest(thread_id)
        if done == "disturbed":
            return
        await self._rows(
            "mark_reduced", {"thread_id": thread_id, "ttl_minutes": self._entry.default_ttl}
        )
        self._count(done, 1)
        if done == "reduced":
            swept.reduced += 1
        else:
            swept.left += 1

    def _counted(self, action: str, thread_ids: list[str]) -> int:
        if thread_ids:
            self._count(action, len(thread_ids))
        return len(thread_ids)

    async def _rows(self, name: str, values: dict[str, Any]) -> list[Any]:
        with translated_faults():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql[name], values)
                return await cursor.fetchall()


def _with(verdicts: list[tuple[str, str]], wanted: str) -> list[str]:
    return [thread_id for thread_id, verdict in verdicts if verdict == wanted]
