"""The stream of a graph, as (namespace, mode, chunk); the namespace of the top graph is ()."""

from collections.abc import AsyncIterator
from typing import Any

from langchain_core.runnables import RunnableConfig

from headrace.events.modes import graph_modes
from headrace.graphs.context import known_context

Part = tuple[tuple[str, ...], str, Any]

#: LangGraph hides events with this tag from traces; headrace hides them from the mode ``events``.
_HIDDEN = "langsmith:hidden"


async def graph_stream(
    graph: Any, given: Any, kwargs: dict[str, Any], config: RunnableConfig
) -> AsyncIterator[Part]:
    """Execute a graph on the input ``given``, with the options stored in ``kwargs``."""
    options = {
        "context": known_context(graph, kwargs["context"]),
        "stream_mode": graph_modes(kwargs["stream_mode"]),
        "subgraphs": kwargs["subgraphs"],
        "interrupt_before": kwargs["interrupt_before"],
        "interrupt_after": kwargs["interrupt_after"],
        "durability": kwargs["durability"],
        # Without ``output_keys`` LangGraph streams the whole state, with private keys.
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
            # This event carries a chunk of another stream mode of the run.
            yield _named(item["data"]["chunk"], subgraphs=subgraphs)
        else:
            yield (), "events", item


def _named(part: Any, *, subgraphs: bool) -> Part:
    namespace, mode, chunk = part if subgraphs else ((), *part)
    return namespace, mode, chunk
