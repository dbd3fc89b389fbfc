"""Idempotency keys in the database. Each call sees its caller's keys only."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from headrace.auth.principal import Principal
from headrace.db.engine import Sessions
from headrace.db.tables import IdempotencyKeyRow
from headrace.idempotency.schemas import RequestKey

_Row = IdempotencyKeyRow


class IdempotencyRepository:
    """Until the resource exists, ``created_at`` is when a request took the key.

    :param kept: how long a key holds.
    :param lease: after this time without a resource, another request may take the key over.
    """

    def __init__(self, sessions: Sessions, *, kept: timedelta, lease: timedelta) -> None:
        self._sessions = sessions
        self._kept = kept
        self._lease = lease

    async def take_if_absent(
        self, principal: Principal, key: RequestKey, resource_id: UUID
    ) -> bool:
        """Insert the key with this id. False if it exists and still holds."""
        row: dict[str, Any] = {
            "tenant": principal.tenant,
            "route": key.route_of(principal),
            "owner": principal.identity,
            "key": key.key,
            "body_sha256": key.body_sha256,
            "run_id": resource_id,
        }
        statement = insert(_Row).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=[_Row.tenant, _Row.route, _Row.key],
            set_={
                "body_sha256": key.body_sha256,
                "run_id": resource_id,
                "thread_id": None,
                "created_at": func.now(),
            },
            where=_Row.created_at < func.now() - self._kept,
        )
        async with self._sessions.begin() as session:
            taken = await session.execute(statement.returning(_Row.run_id))
            return taken.first() is not None

    async def get(self, principal: Principal, key: RequestKey) -> IdempotencyKeyRow | None:
        async with self._sessions.begin() as session:
            statement = select(_Row).where(*_is(principal, key))
            return (await session.scalars(statement)).one_or_none()

    async def take_over_if_left(self, principal: Principal, key: RequestKey) -> bool:
        """Take the key over if its request has not created the resource within the lease.

        :returns: whether this request creates the resource now.
        """
        statement = (
            update(_Row)
            .where(
                *_is(principal, key),
                _Row.thread_id.is_(None),
                _Row.created_at < func.now() - self._lease,
            )
            .values(created_at=func.now())
        )
        async with self._sessions.begin() as session:
            taken = await session.execute(statement.returning(_Row.run_id))
            return taken.first() is not None

    async def confirm(self, principal: Principal, key: RequestKey, thread_id: str) -> None:
        """Note that the resource exists, on this thread."""
        statement = update(_Row).where(*_is(principal, key)).values(thread_id=thread_id)
        async with self._sessions.begin() as session:
            await session.execute(statement)

    async def leave(self, principal: Principal, key: RequestKey) -> None:
        """Let the next try create the resource at once."""
        statement = (
            update(_Row)
            .where(*_is(principal, key), _Row.thread_id.is_(None))
            .values(created_at=func.now() - self._lease - timedelta(seconds=1))
        )
        async with self._sessions.begin() as session:
            await session.execute(statement)

    async def forget(self, principal: Principal, key: RequestKey) -> None:
        """Delete the key: the request was refused."""
        statement = delete(_Row).where(*_is(principal, key), _Row.thread_id.is_(None))
        async with self._sessions.begin() as session:
            await session.execute(statement)

    async def delete_old(self, *, limit: int) -> int:
        """Delete at most ``limit`` keys that no longer hold; returns how many."""
        old = (
            select(_Row.tenant, _Row.route, _Row.key)
            .where(_Row.created_at < func.now() - self._kept)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("old")
        )
        statement = delete(_Row).where(
            _Row.tenant == old.c.tenant, _Row.route == old.c.route, _Row.key == old.c.key
        )
        async with self._sessions.begin() as session:
            deleted = await session.execute(statement.returning(_Row.key))
            return len(deleted.all())


def _is(principal: Principal, key: RequestKey) -> tuple[Any, ...]:
    return (
        _Row.tenant == principal.tenant,
        _Row.route == key.route_of(principal),
        _Row.key == key.key,
    )
