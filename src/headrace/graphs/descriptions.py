"""What a graph looks like: its drawing, its schemas, its subgraphs. Told once, then remembered.

A graph that is made for each run is made for this too, from the configuration of the assistant that
is asked about, and remembered by that.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from headrace.db.jsonb import dump_jsonb
from headrace.errors import HeadraceError
from headrace.graphs.json_schemas import graph_schemas
from headrace.graphs.registry import Graph, GraphRegistry

#: Descriptions that a process remembers; each is some kilobytes.
_REMEMBERED = 256

Describe = Callable[[Graph], Awaitable[Any]]


class GraphDescriptions:
    """One per process. The callers get what is remembered: nobody may change it."""

    def __init__(self, registry: GraphRegistry) -> None:
        self._registry = registry
        self._remembered: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    async def drawing(
        self, graph_id: str, config: dict[str, Any], *, xray: int | bool
    ) -> dict[str, Any]:
        """Nodes and edges; those of subgraphs too, down to the depth that ``xray`` gives."""

        async def describe(graph: Graph) -> dict[str, Any]:
            drawn = await graph.aget_graph(xray=xray)
            return _without_classes(drawn.to_json())

        # 1 is True, and means something else.
        return await self._told(graph_id, config, ("drawing", repr(xray)), describe)

    async def schemas(self, graph_id: str, config: dict[str, Any]) -> dict[str, Any]:
        """Input, output, state, config and context as JSON schemas; None where there is none."""

        async def describe(graph: Graph) -> dict[str, Any]:
            return {"graph_id": graph_id, **await asyncio.to_thread(graph_schemas, graph)}

        return await self._told(graph_id, config, ("schemas",), describe)

    async def subgraphs(
        self, graph_id: str, config: dict[str, Any], *, namespace: str | None, recurse: bool
    ) -> dict[str, Any]:
        """The schemas of the subgraphs by namespace: all, or the one of that namespace."""

        async def describe(graph: Graph) -> dict[str, Any]:
            found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
            subgraphs = {name: subgraph async for name, subgraph in found}
            return {
                name: {"graph_id": graph_id, **await asyncio.to_thread(graph_schemas, subgraph)}
                for name, subgraph in subgraphs.items()
                if isinstance(subgraph, Pregel)
            }

        return await self._told(graph_id, config, ("subgraphs", namespace, recurse), describe)

    async def _told(
        self, graph_id: str, config: dict[str, Any], what: tuple[Any, ...], describe: Describe
    ) -> dict[str, Any]:
        key = (graph_id, *what, self._variant(graph_id, config))
        if key not in self._remembered:
            wanted = cast("RunnableConfig", {**config, "configurable": {}})
            wanted["configurable"] = dict(config.get("configurable") or {})
            async with self._registry.for_run(graph_id, wanted, access="assistants.read") as graph:
                self._remembered[key] = await describe(graph)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(key)
        told: dict[str, Any] = self._remembered[key]
        return told

    def _variant(self, graph_id: str, config: dict[str, Any]) -> bytes:
        """What tells one form of the graph from another; nothing for a graph that has but one."""
        try:
            self._registry.get(graph_id)
        except HeadraceError:
            return dump_jsonb(config)
        return b""


def _without_classes(drawn: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Clients get names; which Python class stands behind a node is nobody's business."""
    for node in drawn["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"].pop("id", None)
    return drawn
