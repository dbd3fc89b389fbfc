"""Deletes threads whose time is over, or reduces them to their latest checkpoints.

Any process may sweep. The time of a thread counts from its last use. A busy thread is looked at
again later: a sweeper locks a thread first and judges it under the lock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from psycopg.errors import LockNotAvailable

from headrace.db.faults import DATABASE_ERRORS, translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements
from headrace.db.transactions import locking_transaction
from headrace.graphs.persistence_entries import TtlEntry
from headrace.isolation import for_each_sound
from headrace.lifecycle import Tasks
from headrace.threads.removal import ThreadRemoval

_log = structlog.stdlib.get_logger("headrace.threads")

#: How many threads one transaction locks, and may delete. A run that starts on one of them waits
#: for the whole transaction.
_BATCH = 50
_LOCK_TIMEOUT_SECONDS = 2.0
#: How many threads of a round may fail. If more fail, the cause is the database, not the threads.
_MOST_DISTURBED = 5
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Swept:
    """How many threads a round has looked at, deleted, reduced, and left as they are.

    ``left``: threads whose state is made of all their checkpoints.
    """

    looked_at: int = 0
    deleted: int = 0
    reduced: int = 0
    left: int = 0


class RetentionSweeper:
    """One per process; any number may sweep at once.

    :param count: called with ``deleted``, ``reduced`` or ``left``, and the number of threads.
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
        #: By tenant: threads created before this time are planned. A new process has no times yet.
        self._planned: dict[str, datetime] = {}

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self._sweep,
            every_seconds=self._entry.sweep_interval_minutes * 60,
            jitter=0.3,
            name="retention-sweeper",
            log=_log,
            skipped_event="threads_kept_longer",
        )

    async def _sweep(self) -> None:
        swept = await self.sweep()
        if swept.deleted or swept.reduced:
            _log.info("threads_expired", deleted=swept.deleted, reduced=swept.reduced)

    async def sweep(self) -> Swept:
        """One round: at most ``sweep_limit`` threads are looked at.

        :raises Unavailable: the database could not be reached; deleted threads stay deleted.
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
                    # A thread that is too large or unreadable must not stop the round.
                    _log.warning("thread_not_reduced", thread_id=thread_id, exc_info=fault)
                    disturbed += 1
                    if disturbed > _MOST_DISTURBED:
                        raise
            if len(verdicts) < wanted:
                break
        return swept

    async def _plan(self) -> None:
        """Plan a look at threads that have no time to live of their own, only the default."""
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
        """Threads and verdicts; threads with the verdict ``delete`` are deleted on return."""
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
        """Delete threads with their runs, events and checkpoints; returns those that it could not.

        For example, a table of the user may refer to one thread. The others are deleted anyway.
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

        failed = await for_each_sound(thread_ids, delete, passing=DATABASE_ERRORS)
        for thread_id, error in failed:
            _log.warning("thread_not_deleted", thread_id=thread_id, exc_info=error)
        refused = [thread_id for thread_id, _ in failed]
        if refused:
            await connection.execute(self._sql["postpone"], {"thread_ids": refused})
        return set(refused)

    async def _reduce(self, thread_id: str, swept: Swept) -> None:
        """Reduce one thread. If that fails, a later look at the thread tries again."""
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
            return await indexed_rows(self._pool, self._sql[name], values)


def _with(verdicts: list[tuple[str, str]], wanted: str) -> list[str]:
    return [thread_id for thread_id, verdict in verdicts if verdict == wanted]
