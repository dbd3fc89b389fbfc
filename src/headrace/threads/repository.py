"""Threads and their runs in the database. A call sees the rows of its caller, or says otherwise."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from sqlalchemy import Text, func, select, text, union_all, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB

from headrace.auth.principal import Principal
from headrace.auth.row_scope import visible_run, visible_thread
from headrace.checkpoints.writer import Writer
from headrace.db.engine import Sessions
from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool
from headrace.db.receipts import Receipts
from headrace.db.repeats import repeated
from headrace.db.tables import RunRow, ThreadRow
from headrace.db.transactions import locking_transaction
from headrace.errors import InvalidRequest, ThreadNotFound
from headrace.ids import canonical_uuid, uuid7
from headrace.threads.creation import CREATIONS, ThreadCreation
from headrace.threads.reader import ThreadReader, place_of
from headrace.threads.rows import StoredThread, row_from
from headrace.threads.schemas import ThreadTTL
from headrace.unavailable_errors import DatabaseUnavailable

T = TypeVar("T")

#: For ``lock_timeout``.
_NO_LIMIT = 0.0


class ThreadRepository:
    def __init__(
        self, sessions: Sessions, pool: SharedPool, writer: Writer, reader: ThreadReader
    ) -> None:
        self._sessions = sessions
        self._pool = pool
        self._receipts = Receipts(pool)
        self._writer = writer
        self._reader = reader

    async def get(self, principal: Principal, thread_id: str) -> StoredThread | None:
        with translated_faults():
            row = await self._reader.row(place_of(principal, thread_id))
        return None if row is None else row_from(row)

    async def get_made(self, principal: Principal, thread_id: str) -> StoredThread | None:
        """As :meth:`get`, for a thread that this request has just made: repeated while the database
        is away, because the whole request cannot be.
        """
        return await repeated(
            lambda: self.get(principal, thread_id), seconds=self._pool.away_timeout_seconds
        )

    async def existing_ids(self, principal: Principal, thread_ids: Sequence[str]) -> Sequence[str]:
        """Those of the given ids that threads have."""
        statement = select(ThreadRow.thread_id).where(
            visible_thread(principal), ThreadRow.thread_id.in_(thread_ids)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).all()

    async def has_only_checkpoints(self, thread_id: str) -> bool:
        """Whether a graph has written checkpoints of this id, but no tenant has such a thread."""
        statement = text(
            "SELECT EXISTS (SELECT FROM checkpoints WHERE thread_id = :id)"
            " AND NOT EXISTS (SELECT FROM threads WHERE thread_id = :id)"
        )
        async with self._sessions.begin() as session:
            return bool(await session.scalar(statement, {"id": thread_id}))

    async def create(
        self, principal: Principal, metadata: dict[str, Any], ttl: ThreadTTL | None
    ) -> StoredThread:
        """A new thread with a new id, committed together with what else is committed now.

        :raises DatabaseUnavailable: it is not committed in the time that the pool waits for the
            database. The writer may try for longer: then there is a thread that nobody knows.
        """
        creation = ThreadCreation(principal, str(uuid7()), metadata, ttl)
        with translated_faults():
            try:
                patience = max(self._pool.timeout, self._pool.away_timeout_seconds)
                async with asyncio.timeout(patience):
                    row = await self._writer.commit(creation)
            except TimeoutError:
                raise DatabaseUnavailable from None
        if row is None:
            # The answer to an earlier try was lost.
            row = await self.get(principal, creation.thread_id)
        return cast("StoredThread", row)

    async def create_if_absent(
        self,
        principal: Principal,
        thread_id: str,
        metadata: dict[str, Any],
        ttl: ThreadTTL | None = None,
    ) -> StoredThread | None:
        """The new thread; None when a thread of any tenant has the id, or checkpoints have it that
        the caller may not take.
        """
        creation = ThreadCreation(
            principal, thread_id, metadata, ttl, takes_strays=principal.takes_strays
        )
        # Another request may be creating a thread with this id: wait for its end.
        transaction = locking_transaction(self._pool, lock_timeout_seconds=_NO_LIMIT)
        async with self._receipts.kept(transaction) as connection:
            ask = await CREATIONS.send(connection, [creation])
            (row,) = await ask()
        return cast("StoredThread | None", row)

    async def update(
        self,
        principal: Principal,
        thread_id: str,
        metadata: dict[str, Any],
        ttl: ThreadTTL | None,
        *,
        max_bytes: int,
    ) -> StoredThread | None:
        """Merge the metadata, one level deep, and set the time to live if one is given.

        :returns: None when there is no such thread, or its metadata would be longer than
            ``max_bytes``.
        """
        merged = ThreadRow.metadata_.op("||")(sql_cast(metadata, JSONB))
        statement = (
            update(ThreadRow)
            .where(
                visible_thread(principal),
                ThreadRow.thread_id == thread_id,
                *([func.octet_length(sql_cast(merged, Text)) <= max_bytes] if metadata else []),
            )
            .values(
                {
                    "metadata_": merged,
                    "updated_at": func.now(),
                    **_ttl_columns(ttl),
                }
            )
            .returning(*ThreadRow.__table__.columns)
        )
        async with self._sessions.begin() as session:
            row = (await session.execute(statement)).mappings().one_or_none()
        return None if row is None else row_from(row)

    async def unfinished_runs(
        self,
        principal: Principal,
        *,
        thread_id: str | None = None,
        run_ids: Sequence[UUID] | None = None,
        statuses: Sequence[str] = ("pending", "running"),
        limit: int,
    ) -> Sequence[UUID]:
        """Runs that have not ended and that nobody has asked to stop.

        The read is repeated while the database is away: some of the runs may be stopped already.
        """
        conditions = [visible_run(principal), RunRow.cancel_action.is_(None)]
        if thread_id is not None:
            conditions.append(RunRow.thread_id == thread_id)
        if run_ids is not None:
            conditions.append(RunRow.run_id.in_(run_ids))
        # One index has pending runs, another has running runs. For both at once there is none.
        parts = [
            select(RunRow.run_id).where(RunRow.status == text(f"'{status}'"), *conditions)
            for status in ("pending", "running")
            if status in statuses
        ]

        async def read() -> Sequence[UUID]:
            async with self._sessions.begin() as session:
                return (await session.scalars(union_all(*parts).limit(limit))).all()

        return await repeated(read, seconds=self._pool.away_timeout_seconds)

    async def executed_run(self, principal: Principal, thread_id: str) -> RunRow | None:
        """The run that a process executes on the thread, whether it was asked to stop or not."""
        statement = select(RunRow).where(
            visible_run(principal),
            RunRow.thread_id == thread_id,
            RunRow.status == "running",
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()


def found(thread_id: str, row: T | None) -> T:
    """The row that a query by a thread's id has returned.

    :raises ThreadNotFound: the query has returned no row.
    :raises InvalidRequest: the query has returned no row, and the id is no UUID.
    """
    if row is not None:
        return row
    if canonical_uuid(thread_id) is None:
        raise InvalidRequest("Invalid thread ID: must be a UUID")
    raise ThreadNotFound(f"Thread with ID {thread_id} not found")


def _ttl_columns(ttl: ThreadTTL | None) -> dict[str, Any]:
    if ttl is None:
        return {}
    return {
        "ttl_minutes": ttl.ttl,
        "ttl_strategy": ttl.strategy,
        "sweep_at": func.now() + timedelta(minutes=ttl.ttl),
    }
