"""The fields of the input of graphs: which graphs take messages."""

import structlog

from headrace.graphs.descriptions import GraphDescriptions

_log = structlog.stdlib.get_logger("headrace.graphs")


class InputFields:
    """One per process."""

    def __init__(self, descriptions: GraphDescriptions) -> None:
        self._descriptions = descriptions
        self._known: dict[str, tuple[str, ...]] = {}

    async def of(self, graph_id: str) -> tuple[str, ...]:
        """The fields of the graph's input; none if its schema does not name them."""
        if graph_id not in self._known:
            self._known[graph_id] = await self._read(graph_id)
        return self._known[graph_id]

    async def without_messages(self, graph_id: str) -> tuple[str, ...]:
        """The fields of an input that has no ``messages``; none if it takes messages, or may."""
        fields = await self.of(graph_id)
        return () if "messages" in fields else fields

    async def _read(self, graph_id: str) -> tuple[str, ...]:
        try:
            schemas = await self._descriptions.schemas(graph_id, {})
        except Exception:
            # A factory that makes a graph for each run may need the configuration of a run.
            _log.info("graph_input_not_described", graph_id=graph_id, exc_info=True)
            return ()
        properties = (schemas.get("input_schema") or {}).get("properties")
        return tuple(properties or ())
