"""Threads in the database; every call is bounded by the caller's tenant."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.tables import ThreadRow


class ThreadRepository:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, principal: Principal, thread_id: str) -> ThreadRow | None:
        statement = select(ThreadRow).where(
            ThreadRow.tenant == principal.tenant, ThreadRow.thread_id == thread_id
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def create_if_absent(
        self, principal: Principal, thread_id: str, metadata: dict[str, Any]
    ) -> ThreadRow | None:
        """The new thread, or None when the id is taken, by whomever."""
        statement = (
            insert(ThreadRow)
            .values(
                {
                    "thread_id": thread_id,
                    "metadata": metadata,
                    "tenant": principal.tenant,
                    "owner": principal.identity,
                }
            )
            .on_conflict_do_nothing()
            .returning(ThreadRow)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()
