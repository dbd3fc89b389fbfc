"""Assistants in the database. Each call sees the assistants of its caller only.

All callers can read the system assistants, and nobody can change them.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Select, Update, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.dml import ReturningDelete

from headrace.assistants.schemas import AssistantFilter, AssistantSearch, VersionSearch
from headrace.auth.principal import SYSTEM, Principal
from headrace.auth.row_scope import (
    own_assistant,
    scope_values,
    visible_assistant,
    visible_text,
)
from headrace.db.cron_tables import CronRow
from headrace.db.engine import Session, Sessions
from headrace.db.jsonb import dump_jsonb
from headrace.db.receipts import Receipts
from headrace.db.row_sizes import RowPage, read_page
from headrace.db.tables import AssistantRow, AssistantVersionRow
from headrace.ids import system_assistant_id

_log = structlog.stdlib.get_logger("headrace.assistants")

#: The columns of an assistant that each version stores.
_CONTENT = ("graph_id", "name", "description", "config", "context", "metadata_")


#: The columns that may be large: callers send them.
_LARGE = ("config", "context", "metadata")

_VISIBLE = visible_text("assistants", with_system=True)
_VISIBLE_OF_VERSION = visible_text("a", with_system=True)


class AssistantRepository:
    """
    :param list_timeout_seconds: after this time Postgres cancels a list or count.
    """

    def __init__(
        self, sessions: Sessions, receipts: Receipts, *, list_timeout_seconds: float = 10.0
    ) -> None:
        self._sessions = sessions
        self._receipts = receipts
        self._listing = partial(sessions.listing, list_timeout_seconds)

    async def get(self, principal: Principal, assistant_id: UUID) -> AssistantRow | None:
        statement = _readable(principal).where(AssistantRow.assistant_id == assistant_id)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def create_if_absent(
        self, principal: Principal, assistant_id: UUID, content: Mapping[str, Any]
    ) -> AssistantRow | None:
        """The new assistant, or None when an assistant of any tenant has the id."""
        values = {
            "assistant_id": assistant_id,
            "tenant": principal.tenant,
            "owner": principal.identity,
            **content,
        }
        statement = (
            insert(AssistantRow)
            .values({getattr(AssistantRow, name): value for name, value in values.items()})
            .on_conflict_do_nothing()
            .returning(AssistantRow)
        )
        async with self._changing() as session:
            row = (await session.scalars(statement)).one_or_none()
            if row is not None:
                await session.execute(_store_version(row.assistant_id))
            return row

    async def update(
        self,
        principal: Principal,
        assistant_id: UUID,
        change: Callable[[AssistantRow], Mapping[str, Any]],
    ) -> AssistantRow | None:
        """Lock the assistant, and store what ``change`` returns for it as a new version.

        :returns: None when the caller has no such assistant.
        """
        async with self._changing() as session:
            row = await _locked(session, principal, assistant_id)
            if row is None:
                return None
            for name, value in change(row).items():
                setattr(row, name, value)
            newest = select(func.max(AssistantVersionRow.version)).where(
                AssistantVersionRow.assistant_id == assistant_id
            )
            row.version = (await session.scalar(newest) or row.version) + 1
            await _save(session, row)
            await session.execute(_store_version(assistant_id))
            return row

    async def set_latest(
        self, principal: Principal, assistant_id: UUID, version: int
    ) -> AssistantRow | None:
        """Let runs use this version; None when there is no such assistant or version."""
        async with self._changing() as session:
            row = await _locked(session, principal, assistant_id)
            wanted = await session.get(AssistantVersionRow, (assistant_id, version))
            if row is None or wanted is None:
                return None
            for name in _CONTENT:
                setattr(row, name, getattr(wanted, name))
            row.version = version
            await _save(session, row)
            return row

    async def delete(self, principal: Principal, assistant_id: UUID) -> bool:
        """Delete an assistant with its versions, and disable its crons.

        :returns: False when the caller has no such assistant.
        """
        statement = delete(AssistantRow).where(
            own_assistant(principal), AssistantRow.assistant_id == assistant_id
        )
        async with self._sessions.begin() as session:
            found = await session.execute(statement.returning(AssistantRow.assistant_id))
            if found.first() is None:
                return False
            await session.execute(_disable_crons(assistant_id))
            return True

    async def search(
        self, principal: Principal, query: AssistantSearch, *, limit: int, max_bytes: int
    ) -> RowPage[AssistantRow]:
        """At most ``limit`` rows from ``query.offset`` on; newest first by default.

        Large columns that ``query.select`` does not name are not read; they are ``{}``.
        """
        without = set(_LARGE).difference(query.select) if query.select else set[str]()
        conditions, values = _conditions(query)
        order = f"{query.sort_by or 'created_at'} {'ASC' if query.sort_order == 'asc' else 'DESC'}"
        page = f"""
            SELECT * FROM assistants WHERE {_VISIBLE}{conditions}
            ORDER BY {order}, assistant_id LIMIT :limit OFFSET :offset"""  # noqa: S608 - of constants
        async with self._listing() as session:
            return await read_page(
                session,
                AssistantRow,
                page,
                _LARGE,
                {**scope_values(principal), **values, "offset": query.offset},
                limit=limit,
                max_bytes=max_bytes,
                without=without,
            )

    async def count(self, principal: Principal, query: AssistantFilter) -> int:
        conditions, values = _conditions(query)
        count = f"SELECT count(*) FROM assistants WHERE {_VISIBLE}{conditions}"  # noqa: S608 - of constants
        async with self._listing() as session:
            return await session.scalar(text(count), {**scope_values(principal), **values}) or 0

    async def versions(
        self, principal: Principal, assistant_id: UUID, query: VersionSearch, *, max_bytes: int
    ) -> RowPage[AssistantVersionRow]:
        """Newest first."""
        conditions, values = "", scope_values(principal)
        if query.metadata:
            conditions = " AND v.metadata @> CAST(:metadata AS jsonb)"
            values["metadata"] = dump_jsonb(query.metadata).decode()
        page = f"""
            SELECT v.* FROM assistant_versions AS v JOIN assistants AS a USING (assistant_id)
            WHERE {_VISIBLE_OF_VERSION} AND v.assistant_id = :assistant_id{conditions}
            ORDER BY v.version DESC LIMIT :limit OFFSET :offset"""  # noqa: S608 - of constants
        async with self._listing() as session:
            return await read_page(
                session,
                AssistantVersionRow,
                page,
                _LARGE,
                {**values, "assistant_id": assistant_id, "offset": query.offset},
                limit=query.limit,
                max_bytes=max_bytes,
            )

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Session]:
        """A transaction that may be repeated if it raises DatabaseUnavailable."""
        async with self._receipts.kept(self._sessions.begin()) as session:
            yield session
            await session.flush()
            # SQLAlchemy would empty the rows if the answer to the COMMIT is lost.
            session.expunge_all()

    async def create_system(self, descriptions: Mapping[str, str | None]) -> None:
        """Create the system assistant of each graph, or update its description.

        Several processes may do this at once. Its id can be told from the name of the graph, so a
        caller may have taken the id before the graph came: that assistant is replaced.
        """
        rows = [
            {
                "assistant_id": system_assistant_id(graph_id),
                "graph_id": graph_id,
                "name": graph_id,
                "description": descriptions[graph_id],
                "metadata": {"created_by": "system"},
                "tenant": SYSTEM.tenant,
                "owner": SYSTEM.identity,
            }
            for graph_id in sorted(descriptions)
        ]
        if not rows:
            return
        async with self._sessions.begin() as session:
            table = AssistantRow.__table__
            make = insert(table).on_conflict_do_nothing()  # type: ignore[arg-type] # a Table, typed as FromClause
            # It waits for a caller that makes an assistant with such an id now.
            await session.execute(make, rows)
            ids: list[Any] = [row["assistant_id"] for row in rows]
            taken = await session.scalars(_delete_taken(ids))
            if assistant_ids := [str(one) for one in taken]:
                _log.warning("system_assistant_replaced", assistant_ids=assistant_ids)
                await session.execute(make, rows)
            for row in rows:
                await session.execute(_describe(row["assistant_id"], row["description"]))
            await session.execute(_store_version(*[row["assistant_id"] for row in rows]))


def _delete_taken(assistant_ids: Sequence[UUID]) -> ReturningDelete[UUID]:
    """Delete assistants of callers that have these ids, with their versions."""
    return (
        delete(AssistantRow)
        .where(AssistantRow.assistant_id.in_(assistant_ids), AssistantRow.tenant != SYSTEM.tenant)
        .returning(AssistantRow.assistant_id)
        .execution_options(synchronize_session=False)
    )


def _describe(assistant_id: object, text: object) -> Update:
    """Give an assistant a new description, as a new version, if it differs from the old one."""
    return (
        update(AssistantRow)
        .where(
            AssistantRow.assistant_id == assistant_id,
            AssistantRow.description.is_distinct_from(text),
        )
        .values(
            description=text,
            version=AssistantRow.version + 1,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )


def _disable_crons(assistant_id: UUID) -> Update:
    return (
        update(CronRow)
        .where(CronRow.assistant_id == assistant_id, CronRow.enabled)
        .values(
            enabled=False,
            disabled_reason="The assistant was deleted.",
            look_at=None,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )


def _readable(principal: Principal) -> Select[AssistantRow]:
    return select(AssistantRow).where(visible_assistant(principal))


def _conditions(query: AssistantFilter) -> tuple[str, dict[str, Any]]:
    """A filter as SQL conditions, and their values."""
    conditions, values = "", dict[str, Any]()
    if query.graph_id is not None:
        conditions += " AND graph_id = :graph_id"
        values["graph_id"] = query.graph_id
    if query.name is not None:
        conditions += " AND lower(name) LIKE '%' || lower(:name) || '%' ESCAPE '/'"
        values["name"] = re.sub("([%_/])", r"/\1", query.name)
    if query.metadata:
        conditions += " AND metadata @> CAST(:metadata AS jsonb)"
        values["metadata"] = dump_jsonb(query.metadata).decode()
    return conditions, values


async def _locked(
    session: Session, principal: Principal, assistant_id: UUID
) -> AssistantRow | None:
    """Lock an assistant that the caller may change. Its current content is stored as a version."""
    statement = (
        select(AssistantRow)
        .where(own_assistant(principal), AssistantRow.assistant_id == assistant_id)
        .with_for_update()
    )
    row = (await session.scalars(statement)).one_or_none()
    if row is not None:
        # A release that had no versions may have created it.
        await session.execute(_store_version(assistant_id))
    return row


async def _save(session: Session, row: AssistantRow) -> None:
    # now() may be earlier than the time that the previous holder of the lock has set.
    # clock_timestamp() is later, so no two states of an assistant have one time.
    row.updated_at = func.clock_timestamp()
    await session.flush()
    await session.refresh(row)


def _store_version(*assistant_ids: object) -> Insert:
    """Store the current content of these assistants as a version, unless it is stored."""
    columns = [getattr(AssistantRow, name) for name in _CONTENT]
    present = select(
        AssistantRow.assistant_id, AssistantRow.version, *columns, AssistantRow.updated_at
    ).where(AssistantRow.assistant_id.in_(assistant_ids))
    names = ["metadata" if name == "metadata_" else name for name in _CONTENT]
    table = AssistantVersionRow.__table__
    return (
        insert(table)  # type: ignore[arg-type] # a Table, typed as FromClause
        .from_select(["assistant_id", "version", *names, "created_at"], present)
        .on_conflict_do_nothing()
    )
