"""Assistants in the database. Each call sees only the caller's tenant.

All tenants can read the system assistants. Only the tenant that owns an assistant can change it.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Update, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import Insert, insert

from headrace.assistants.schemas import AssistantFilter, AssistantSearch, VersionSearch
from headrace.auth.principal import SYSTEM, SYSTEM_TENANT, Principal
from headrace.db.engine import Session, Sessions
from headrace.db.jsonb import dump_jsonb
from headrace.db.row_sizes import RowPage, read_page
from headrace.db.tables import AssistantRow, AssistantVersionRow
from headrace.ids import system_assistant_id

#: The columns of an assistant that each version stores.
_CONTENT = ("graph_id", "name", "description", "config", "context", "metadata_")


#: The columns that may be large: callers send them.
_LARGE = ("config", "context", "metadata")


class AssistantRepository:
    """
    :param list_timeout_seconds: after this time Postgres cancels a list or count.
    """

    def __init__(self, sessions: Sessions, *, list_timeout_seconds: float = 10.0) -> None:
        self._sessions = sessions
        self._list_timeout = f"{int(list_timeout_seconds * 1000)}ms"

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
        async with self._sessions.begin() as session:
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

        :returns: None when the tenant has no such assistant.
        """
        async with self._sessions.begin() as session:
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
        async with self._sessions.begin() as session:
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
        """Delete an assistant with its versions; False when the tenant has no such assistant."""
        statement = delete(AssistantRow).where(
            _tenant() == principal.tenant, AssistantRow.assistant_id == assistant_id
        )
        async with self._sessions.begin() as session:
            found = await session.execute(statement.returning(AssistantRow.assistant_id))
            return found.first() is not None

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
            SELECT * FROM assistants WHERE tenant IN (:tenant, :system){conditions}
            ORDER BY {order}, assistant_id LIMIT :limit OFFSET :offset"""  # noqa: S608 - of constants
        async with self._listing() as session:
            return await read_page(
                session,
                AssistantRow,
                page,
                _LARGE,
                {**_readers(principal), **values, "offset": query.offset},
                limit=limit,
                max_bytes=max_bytes,
                without=without,
            )

    async def count(self, principal: Principal, query: AssistantFilter) -> int:
        conditions, values = _conditions(query)
        count = f"SELECT count(*) FROM assistants WHERE tenant IN (:tenant, :system){conditions}"  # noqa: S608 - of constants
        async with self._listing() as session:
            return await session.scalar(text(count), {**_readers(principal), **values}) or 0

    async def versions(
        self, principal: Principal, assistant_id: UUID, query: VersionSearch, *, max_bytes: int
    ) -> RowPage[AssistantVersionRow]:
        """Newest first."""
        conditions, values = "", _readers(principal)
        if query.metadata:
            conditions = " AND v.metadata @> CAST(:metadata AS jsonb)"
            values["metadata"] = dump_jsonb(query.metadata).decode()
        page = f"""
            SELECT v.* FROM assistant_versions AS v JOIN assistants AS a USING (assistant_id)
            WHERE a.tenant IN (:tenant, :system) AND v.assistant_id = :assistant_id{conditions}
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
    async def _listing(self) -> AsyncIterator[Session]:
        """A transaction with a statement_timeout.

        Postgres ignores a cancel request while it compares JSON, but checks its own timeout
        between rows.
        """
        async with self._sessions.begin() as session:
            await session.execute(
                select(func.set_config("statement_timeout", self._list_timeout, True))
            )
            yield session

    async def create_system(self, descriptions: Mapping[str, str | None]) -> None:
        """Create the system assistant of each graph, or update its description.

        Several processes may do this at once.
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
            await session.execute(insert(table).on_conflict_do_nothing(), rows)  # type: ignore[arg-type] # a Table, typed as FromClause
            for row in rows:
                await session.execute(_describe(row["assistant_id"], row["description"]))
            await session.execute(_store_version(*[row["assistant_id"] for row in rows]))


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


def _readable(principal: Principal) -> Select[AssistantRow]:
    return select(AssistantRow).where(_tenant().in_([principal.tenant, SYSTEM_TENANT]))


def _tenant() -> ColumnElement[str]:
    """The tenant, for statements about one assistant: no index is used for it.

    If Postgres believes that the tenant has no assistant, its index looks as good as the key.
    """
    return func.coalesce(AssistantRow.tenant, "")


def _readers(principal: Principal) -> dict[str, Any]:
    return {"tenant": principal.tenant, "system": SYSTEM_TENANT}


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
    """Lock an assistant of the caller's tenant. Its current content is stored as a version."""
    statement = (
        select(AssistantRow)
        .where(_tenant() == principal.tenant, AssistantRow.assistant_id == assistant_id)
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
