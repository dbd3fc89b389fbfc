"""Rules of assistants: what a name or an id stands for."""

from collections.abc import Sequence
from uuid import UUID

from headrace.assistants.repository import AssistantRepository
from headrace.assistants.schemas import AssistantSearch
from headrace.auth.principal import Principal
from headrace.db.tables import AssistantRow
from headrace.errors import AssistantNotFound, InvalidRequest
from headrace.ids import system_assistant_id


class AssistantService:
    """``graph_ids`` are the graphs this server has; an assistant of another one cannot run here."""

    def __init__(self, repository: AssistantRepository, graph_ids: Sequence[str]) -> None:
        self._repository = repository
        self._graph_ids = frozenset(graph_ids)

    async def create_system(self) -> None:
        """Make sure that each graph has its first assistant."""
        await self._repository.create_system(self._graph_ids)

    async def get(self, principal: Principal, reference: str) -> AssistantRow:
        """The assistant with this id, or the first one of the graph with this name.

        :raises InvalidRequest: neither a UUID nor a graph's name.
        :raises AssistantNotFound: a UUID that stands for nothing the caller may see.
        """
        if reference in self._graph_ids:
            assistant_id = system_assistant_id(reference)
        else:
            try:
                assistant_id = UUID(reference)
            except ValueError:
                raise InvalidRequest(
                    f"Invalid assistant: '{reference}'. Must be an assistant's UUID or one of the"
                    f" graphs: {', '.join(sorted(self._graph_ids))}"
                ) from None
        row = await self._repository.get(principal, assistant_id)
        if row is None:
            raise AssistantNotFound(f"Assistant with ID {assistant_id} not found")
        return row

    async def get_runnable(self, principal: Principal, reference: str) -> AssistantRow:
        """As :meth:`get`, and its graph is one this server has."""
        row = await self.get(principal, reference)
        if row.graph_id not in self._graph_ids:
            raise InvalidRequest(
                f"Assistant {row.assistant_id} is of graph '{row.graph_id}', which this server does"
                f" not have; it has: {', '.join(sorted(self._graph_ids))}"
            )
        return row

    async def search(
        self, principal: Principal, query: AssistantSearch
    ) -> tuple[list[AssistantRow], bool]:
        """One page, and whether there is another."""
        rows = await self._repository.search(principal, query, limit=query.limit + 1)
        return list(rows[: query.limit]), len(rows) > query.limit
