"""Drawings and schemas of an assistant's graph, made with the assistant's configuration."""

from typing import Any

from headrace.assistants.service import AssistantService
from headrace.auth.principal import Principal
from headrace.db.tables import AssistantRow
from headrace.graphs.descriptions import GraphDescriptions

#: Separates the names of nested subgraphs in a namespace.
_SEPARATOR = "|"


class GraphService:
    """Each call raises what :meth:`AssistantService.get_runnable` does."""

    def __init__(self, assistants: AssistantService, descriptions: GraphDescriptions) -> None:
        self._assistants = assistants
        self._descriptions = descriptions

    async def drawing(
        self, principal: Principal, reference: str, *, xray: int | bool
    ) -> dict[str, Any]:
        row = await self._assistants.get_runnable(principal, reference)
        return await self._descriptions.drawing(row.graph_id, _config(row), xray=xray)

    async def schemas(self, principal: Principal, reference: str) -> dict[str, Any]:
        return await self.schemas_of(await self._assistants.get_runnable(principal, reference))

    async def schemas_of(self, row: AssistantRow) -> dict[str, Any]:
        """The schemas of an assistant that was read; its graph must be on this server."""
        return await self._descriptions.schemas(row.graph_id, _config(row))

    async def subgraphs(
        self,
        principal: Principal,
        reference: str,
        *,
        namespace: str | None = None,
        recurse: bool = False,
    ) -> dict[str, Any]:
        """The schemas by namespace; empty for an unknown namespace."""
        row = await self._assistants.get_runnable(principal, reference)
        # LangGraph finds a nested subgraph only with ``recurse``.
        inner = namespace is not None and _SEPARATOR in namespace
        return await self._descriptions.subgraphs(
            row.graph_id, _config(row), namespace=namespace, recurse=recurse or inner
        )


def _config(row: AssistantRow) -> dict[str, Any]:
    """The configuration that a factory gets when there is no run."""
    configurable = {
        key: value
        for key, value in (row.config.get("configurable") or {}).items()
        if not key.startswith("__")
    }
    ids = {"graph_id": row.graph_id, "assistant_id": str(row.assistant_id)}
    return {**row.config, "configurable": {**configurable, **ids}}
