"""Crons in the database, for those who manage them. Each call sees its caller's crons."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values, visible_cron, visible_text
from headrace.auth.run_callers import stored_auth
from headrace.db.cron_tables import CronRow
from headrace.db.engine import Sessions
from headrace.db.jsonb import dump_jsonb
from headrace.db.row_sizes import RowPage, read_page
from headrace.errors import ThreadNotFound

#: The columns that may be large: callers send them.
_LARGE = ("payload", "metadata", "headers")
_NULLABLE = ("thread_id", "next_run_date", "end_time")


class CronRepository:
    """
    :param list_timeout_seconds: after this time Postgres cancels a list or count.
    """

    def __init__(self, sessions: Sessions, *, list_timeout_seconds: float) -> None:
        self._sessions = sessions
        self._listing = partial(sessions.listing, list_timeout_seconds)

    async def now(self) -> datetime:
        """The time of the database, by which crons are due."""
        async with self._sessions.begin() as session:
            found: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
            return found

    async def owned(self, principal: Principal) -> int:
        """How many crons the caller owns."""
        statement = (
            select(func.count())
            .select_from(CronRow)
            .where(
                CronRow.owner == principal.identity,
                func.coalesce(CronRow.tenant, "") == principal.tenant,
            )
        )
        async with self._sessions.begin() as session:
            return await session.scalar(statement) or 0

    async def create_if_absent(
        self, principal: Principal, cron_id: UUID, content: Mapping[str, Any]
    ) -> None:
        """
        :raises ThreadNotFound: its thread was deleted meanwhile.
        """
        values = {
            "cron_id": cron_id,
            "tenant": principal.tenant,
            "owner": principal.identity,
            "caller": principal.caller,
            "auth": stored_auth(principal),
            **content,
        }
        statement = (
            insert(CronRow)
            .values({getattr(CronRow, name): value for name, value in values.items()})
            .on_conflict_do_nothing()
        )
        try:
            async with self._sessions.begin() as session:
                await session.execute(statement)
        except IntegrityError as error:
            if not isinstance(error.orig, ForeignKeyViolation):
                raise
            raise ThreadNotFound(
                f"Thread with ID {content['thread_id']} was deleted meanwhile"
            ) from None

    async def get(self, principal: Principal, cron_id: UUID) -> CronRow | None:
        statement = select(CronRow).where(*_is(principal, cron_id))
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def update_if_unchanged(
        self, principal: Principal, seen: CronRow, values: Mapping[str, Any]
    ) -> CronRow | None:
        """Store ``values``; None if the cron has changed, or had a run, since ``seen`` was read."""
        statement = (
            update(CronRow)
            .where(
                *_is(principal, seen.cron_id),
                CronRow.updated_at == seen.updated_at,
                CronRow.next_run_date.is_not_distinct_from(seen.next_run_date),
            )
            .values(
                {
                    **{getattr(CronRow, name): value for name, value in values.items()},
                    CronRow.updated_at: func.clock_timestamp(),
                }
            )
            .execution_options(synchronize_session=False)
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement.returning(CronRow))).one_or_none()

    async def delete(self, principal: Principal, cron_id: UUID) -> bool:
        """Whether the caller had this cron."""
        statement = delete(CronRow).where(*_is(principal, cron_id)).returning(CronRow.cron_id)
        async with self._sessions.begin() as session:
            return (await session.execute(statement)).first() is not None

    async def search(
        self,
        principal: Principal,
        conditions: Mapping[str, Any],
        *,
        sort_by: str,
        descending: bool,
        limit: int,
        offset: int,
        max_bytes: int,
        without: frozenset[str],
    ) -> RowPage[CronRow]:
        """At most ``limit`` crons from ``offset`` on.

        :param conditions: values by column; that of ``metadata`` must be contained.
        :param without: large columns that are not read; they are ``{}``.
        """
        where, values = _conditions(principal, conditions)
        way = "DESC" if descending else "ASC"
        order = f"{sort_by} {way}" + (" NULLS LAST" if sort_by in _NULLABLE else "")
        page = f"""
            SELECT * FROM crons WHERE {where}
            ORDER BY {order}, cron_id {way}
            LIMIT :limit OFFSET :offset"""  # noqa: S608 - of constants
        async with self._listing() as session:
            return await read_page(
                session,
                CronRow,
                page,
                _LARGE,
                {**values, "offset": offset},
                limit=limit,
                max_bytes=max_bytes,
                without=without | {"headers"},
            )

    async def count(self, principal: Principal, conditions: Mapping[str, Any]) -> int:
        where, values = _conditions(principal, conditions)
        async with self._listing() as session:
            counted = await session.scalar(
                text(f"SELECT count(*) FROM crons WHERE {where}"),  # noqa: S608 - of constants
                values,
            )
            return counted or 0


def _is(principal: Principal, cron_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return CronRow.cron_id == cron_id, visible_cron(principal)


def _conditions(principal: Principal, conditions: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    where, values = visible_text("crons"), scope_values(principal)
    for name, value in conditions.items():
        if name == "metadata":
            where += " AND metadata @> CAST(:metadata AS jsonb)"
            values["metadata"] = dump_jsonb(value).decode()
        else:
            where += f" AND {name} = :{name}"
            values[name] = value
    return where, values
