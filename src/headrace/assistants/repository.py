"""Assistants in the database; every read is bounded by the caller's tenant."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert

from headrace.assistants.schemas import AssistantSearch
from headrace.auth.principal import SYSTEM, SYSTEM_TENANT, Principal
from headrace.db.engine import Sessions
from headrace.db.tables import AssistantRow
from headrace.ids import system_assistant_id


class AssistantRepository:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, principal: Principal, assistant_id: UUID) -> AssistantRow | None:
        statement = _readable(principal).where(AssistantRow.assistant_id == assistant_id)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def search(
        self, principal: Principal, query: AssistantSearch, *, limit: int
    ) -> Sequence[AssistantRow]:
        """At most ``limit`` rows from ``query.offset`` on; newest first unless the query says."""
        statement = _readable(principal)
        if query.graph_id is not None:
            statement = statement.where(AssistantRow.graph_id == query.graph_id)
        if query.name is not None:
            statement = statement.where(AssistantRow.name.icontains(query.name, autoescape=True))
        if query.metadata:
            statement = statement.where(AssistantRow.metadata_.contains(query.metadata))
        column = getattr(AssistantRow, query.sort_by or "created_at")
        ordered = column.asc() if query.sort_order == "asc" else column.desc()
        statement = statement.order_by(ordered, AssistantRow.assistant_id)
        async with self._sessions.begin() as session:
            rows = await session.scalars(statement.limit(limit).offset(query.offset))
            return rows.all()

    async def create_system(self, graph_ids: Iterable[str]) -> None:
        """Give each graph its first assistant; several processes may do so at once."""
        rows = [
            {
                "assistant_id": system_assistant_id(graph_id),
                "graph_id": graph_id,
                "name": graph_id,
                "metadata": {"created_by": "system"},
                "tenant": SYSTEM.tenant,
                "owner": SYSTEM.identity,
            }
            for graph_id in sorted(graph_ids)
        ]
        if not rows:
            return
        async with self._sessions.begin() as session:
            table = AssistantRow.__table__
            await session.execute(insert(table).on_conflict_do_nothing(), rows)  # type: ignore[arg-type] # a Table, typed as FromClause


def _readable(principal: Principal) -> Select[AssistantRow]:
    return select(AssistantRow).where(AssistantRow.tenant.in_([principal.tenant, SYSTEM_TENANT]))
