"""Reading runs; every call is bounded by the caller's tenant. Writing them is the queue's."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.tables import RunRow


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

    async def search(
        self,
        principal: Principal,
        thread_id: str,
        *,
        status: str | None,
        limit: int,
        offset: int,
    ) -> Sequence[RunRow]:
        """Newest first."""
        statement = select(RunRow).where(
            RunRow.tenant == principal.tenant, RunRow.thread_id == thread_id
        )
        if status is not None:
            statement = statement.where(RunRow.status == status)
        statement = statement.order_by(RunRow.run_id.desc()).limit(limit).offset(offset)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).all()
