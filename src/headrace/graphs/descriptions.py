"""Drawings and schemas of graphs and their subgraphs, cached.

A factory that makes a graph for each run is also called here, with the configuration of the
assistant. The cache then depends on that configuration.
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

#: Descriptions in the cache of a process; each has some kilobytes.
_MAX_CACHED = 256

Describe = Callable[[Graph], Awaitable[Any]]


class GraphDescriptions:
    """One per process. Callers get the cached objects, and must not change them."""

    def __init__(self, registry: GraphRegistry) -> None:
        self._registry = registry
        self._cache: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    async def drawing(
        self, graph_id: str, config: dict[str, Any], *, xray: int | bool
    ) -> dict[str, Any]:
        """Nodes and edges, with those of subgraphs down to the depth ``xray``."""

        async def describe(graph: Graph) -> dict[str, Any]:
            drawn = await graph.aget_graph(xray=xray)
            return _without_classes(drawn.to_json())

        # 1 == True, but they mean different depths.
        return await self._cached(graph_id, config, ("drawing", repr(xray)), describe)

    async def schemas(self, graph_id: str, config: dict[str, Any]) -> dict[str, Any]:
        """JSON schemas of input, output, state, config and context; None if there is none."""

        async def describe(graph: Graph) -> dict[str, Any]:
            return {"graph_id": graph_id, **await asyncio.to_thread(graph_schemas, graph)}

        return await self._cached(graph_id, config, ("schemas",), describe)

    async def subgraphs(
        self, graph_id: str, config: dict[str, Any], *, namespace: str | None, recurse: bool
    ) -> dict[str, Any]:
        """The schemas of the subgraphs by namespace: all, or only those of ``namespace``."""

        async def describe(graph: Graph) -> dict[str, Any]:
            found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
            subgraphs = {name: subgraph async for name, subgraph in found}
            return {
                name: {"graph_id": graph_id, **await asyncio.to_thread(graph_schemas, subgraph)}
                for name, subgraph in subgraphs.items()
                if isinstance(subgraph, Pregel)
            }

        return await self._cached(graph_id, config, ("subgraphs", namespace, recurse), describe)

    async def _cached(
        self, graph_id: str, config: dict[str, Any], what: tuple[Any, ...], describe: Describe
    ) -> dict[str, Any]:
        key = (graph_id, *what, self._variant(graph_id, config))
        if key not in self._cache:
            wanted = cast("RunnableConfig", {**config, "configurable": {}})
            wanted["configurable"] = dict(config.get("configurable") or {})
            async with self._registry.for_run(graph_id, wanted, access="assistants.read") as graph:
                self._cache[key] = await describe(graph)
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        found: dict[str, Any] = self._cache[key]
        return found

    def _variant(self, graph_id: str, config: dict[str, Any]) -> bytes:
        """The part of the cache key that depends on the configuration; empty for a fixed graph."""
        try:
            self._registry.get(graph_id)
        except HeadraceError:
            return dump_jsonb(config)
        return b""


def _without_classes(drawn: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The drawing without the ids that name the Python classes of nodes."""
    for node in drawn["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"].pop("id", None)
    return drawn
