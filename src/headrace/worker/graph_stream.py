"""What a graph streams, as (namespace, mode, chunk); the top graph's namespace is ()."""

from collections.abc import AsyncIterator
from typing import Any

from langchain_core.runnables import RunnableConfig

from headrace.events.modes import graph_modes
from headrace.graphs.context import known_context

Part = tuple[tuple[str, ...], str, Any]

#: What LangGraph hides from traces it hides from ``events`` too.
_HIDDEN = "langsmith:hidden"


async def graph_stream(
    graph: Any, given: Any, kwargs: dict[str, Any], config: RunnableConfig
) -> AsyncIterator[Part]:
    """Execute a graph on ``given``, as is stored with its run."""
    options = {
        "context": known_context(graph, kwargs["context"]),
        "stream_mode": graph_modes(kwargs["stream_mode"]),
        "subgraphs": kwargs["subgraphs"],
        "interrupt_before": kwargs["interrupt_before"],
        "interrupt_after": kwargs["interrupt_after"],
        "durability": kwargs["durability"],
        # Not by itself: without it LangGraph streams the whole state, private keys included.
        "output_keys": graph.output_channels,
    }
    subgraphs = kwargs["subgraphs"]
    if "events" not in kwargs["stream_mode"]:
        async for part in graph.astream(given, config, **options):
            yield _named(part, subgraphs=subgraphs)
        return
    run_id = str(config["run_id"])
    async for item in graph.astream_events(given, config, version="v2", **options):
        if _HIDDEN in (item.get("tags") or ()):
            continue
        if item["event"] == "on_chain_stream" and item["run_id"] == run_id:
            # The run's own chunks, which its other stream modes tell; no event of the graph's.
            yield _named(item["data"]["chunk"], subgraphs=subgraphs)
        else:
            yield (), "events", item


def _named(part: Any, *, subgraphs: bool) -> Part:
    namespace, mode, chunk = part if subgraphs else ((), *part)
    return namespace, mode, chunk
