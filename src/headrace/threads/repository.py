"""Threads in the database; every call is bounded by the caller's tenant."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.tables import ThreadRow
from headrace.threads.schemas import ThreadTTL


class ThreadRepository:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, principal: Principal, thread_id: str) -> ThreadRow | None:
        statement = select(ThreadRow).where(
            ThreadRow.tenant == principal.tenant, ThreadRow.thread_id == thread_id
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def those_there(self, principal: Principal, thread_ids: Sequence[str]) -> Sequence[str]:
        """Of these ids those that threads have."""
        statement = select(ThreadRow.thread_id).where(
            ThreadRow.tenant == principal.tenant, ThreadRow.thread_id.in_(thread_ids)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).all()

    async def has_only_checkpoints(self, thread_id: str) -> bool:
        """Whether a graph has run under this id, and nobody has a thread of it."""
        statement = text(
            "SELECT EXISTS (SELECT FROM checkpoints WHERE thread_id = :id AND checkpoint_ns = '')"
            " AND NOT EXISTS (SELECT FROM threads WHERE thread_id = :id)"
        )
        async with self._sessions.begin() as session:
            return bool(await session.scalar(statement, {"id": thread_id}))

    async def create_if_absent(
        self,
        principal: Principal,
        thread_id: str,
        metadata: dict[str, Any],
        ttl: ThreadTTL | None = None,
    ) -> ThreadRow | None:
        """The new thread, or None when the id is taken, by whomever."""
        statement = (
            insert(ThreadRow)
            .values(
                {
                    "thread_id": thread_id,
                    "metadata_": metadata,
                    "tenant": principal.tenant,
                    "owner": principal.identity,
                    **_ttl_columns(ttl),
                }
            )
            .on_conflict_do_nothing()
            .returning(ThreadRow)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def update(
        self,
        principal: Principal,
        thread_id: str,
        metadata: dict[str, Any],
        ttl: ThreadTTL | None,
        *,
        max_bytes: int,
    ) -> ThreadRow | None:
        """Merge the metadata, one level deep; None when there is no such thread, or it would have
        more than ``max_bytes`` of it."""
        merged = ThreadRow.metadata_.op("||")(cast(metadata, JSONB))
        statement = (
            update(ThreadRow)
            .where(
                ThreadRow.tenant == principal.tenant,
                ThreadRow.thread_id == thread_id,
                *([func.octet_length(cast(merged, Text)) <= max_bytes] if metadata else []),
            )
            .values(
                {
                    "metadata_": merged,
                    "updated_at": func.now(),
                    **_ttl_columns(ttl),
                }
            )
            .returning(ThreadRow)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()


def _ttl_columns(ttl: ThreadTTL | None) -> dict[str, Any]:
    if ttl is None:
        return {}
    return {
        "ttl_minutes": ttl.ttl,
        "ttl_strategy": ttl.strategy,
        "sweep_at": func.now() + timedelta(minutes=ttl.ttl),
    }
