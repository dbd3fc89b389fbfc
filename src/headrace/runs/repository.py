"""Runs in the database; every call is bounded by the caller's tenant.

Who runs what is the queue's to write; here runs that have ended are deleted.
"""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from sqlalchemy import and_, delete, func, or_, select, text

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.tables import TERMINAL, RunEventRow, RunRow

_UNFINISHED = RunRow.status.in_(("pending", "running"))
#: It was asked to stop, and is shown as what it will be.
_STOPPING = and_(_UNFINISHED, RunRow.cancel_action.is_not(None))
#: It was asked to leave no trace, and is not shown any more.
_UNDONE = and_(_UNFINISHED, func.coalesce(RunRow.cancel_action, "") == "rollback")


class RunRepository:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, principal: Principal, thread_id: str, run_id: UUID) -> RunRow | None:
        statement = select(RunRow).where(
            RunRow.tenant == principal.tenant,
            RunRow.thread_id == thread_id,
            RunRow.run_id == run_id,
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def find(self, principal: Principal, run_id: UUID) -> RunRow | None:
        """As :meth:`get`, on whichever thread."""
        statement = select(RunRow).where(RunRow.tenant == principal.tenant, RunRow.run_id == run_id)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def unfinished(
        self,
        principal: Principal,
        *,
        thread_id: str | None = None,
        run_ids: Sequence[UUID] | None = None,
        statuses: Sequence[str] = ("pending", "running"),
        limit: int,
    ) -> Sequence[UUID]:
        """Runs that have not ended and that nobody has asked to end."""
        statement = select(RunRow.run_id).where(
            RunRow.tenant == principal.tenant,
            RunRow.status.in_(statuses),
            RunRow.cancel_action.is_(None),
        )
        if thread_id is not None:
            statement = statement.where(RunRow.thread_id == thread_id)
        if run_ids is not None:
            statement = statement.where(RunRow.run_id.in_(run_ids))
        async with self._sessions.begin() as session:
            return (await session.scalars(statement.limit(limit))).all()

    async def delete_if_ended(self, principal: Principal, run_id: UUID) -> bool:
        """Delete the run; False when it has not ended, or is not there.

        Its stored events go with it, or with the next sweep while somebody elsewhere reads them.
        """
        statement = delete(RunRow).where(
            RunRow.tenant == principal.tenant,
            RunRow.run_id == run_id,
            text(f"status IN {TERMINAL}"),
        )
        async with self._sessions.begin() as session:
            deleted = await session.execute(
                statement.returning(func.coalesce(RunRow.watched_until > func.now(), False))
            )
            watched = deleted.scalar_one_or_none()
            if watched is False:
                await session.execute(delete(RunEventRow).where(RunEventRow.run_id == run_id))
            return watched is not None

    async def head_checkpoint(self, principal: Principal, thread_id: str) -> str | None:
        """The id of the last checkpoint of a thread that the caller may see."""
        statement = text(
            "SELECT max(checkpoint_id) FROM checkpoints JOIN threads USING (thread_id)"
            " WHERE thread_id = :thread_id AND checkpoint_ns = '' AND tenant = :tenant"
        )
        async with self._sessions.begin() as session:
            found = await session.execute(
                statement, {"thread_id": thread_id, "tenant": principal.tenant}
            )
            return cast("str | None", found.scalar_one())

    async def executed(self, principal: Principal, thread_id: str) -> RunRow | None:
        """The run that a process executes on the thread, whether it was asked to stop or not."""
        statement = select(RunRow).where(
            RunRow.tenant == principal.tenant,
            RunRow.thread_id == thread_id,
            RunRow.status == "running",
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def search(
        self,
        principal: Principal,
        thread_id: str,
        *,
        status: str | None,
        limit: int,
        offset: int,
    ) -> Sequence[RunRow]:
        """Newest first; one that is asked to stop counts as what it will be."""
        statement = select(RunRow).where(
            RunRow.tenant == principal.tenant, RunRow.thread_id == thread_id, ~_UNDONE
        )
        if status == "interrupted":
            statement = statement.where(or_(RunRow.status == status, _STOPPING))
        elif status is not None:
            statement = statement.where(RunRow.status == status, ~_STOPPING)
        statement = statement.order_by(RunRow.run_id.desc()).limit(limit).offset(offset)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).all()
