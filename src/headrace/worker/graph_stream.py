"""The stream of a graph: what it streams in each mode that is needed."""

from collections.abc import AsyncIterator
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from headrace.events.modes import graph_modes
from headrace.graphs.context import known_context
from headrace.worker.boundary import BoundaryControl

#: (mode, chunk) of the top graph, or (namespace, mode, chunk).
Part = tuple[str, Any] | tuple[tuple[str, ...], str, Any]

#: LangGraph hides events with this tag from traces; headrace hides them from the mode ``events``.
_HIDDEN = "langsmith:hidden"


def graph_stream(
    graph: Any,
    given: Any,
    kwargs: dict[str, Any],
    config: RunnableConfig,
    control: BoundaryControl,
) -> AsyncIterator[Part]:
    """Execute a graph on the input ``given``, with the options stored in ``kwargs``.

    :param control: can stop the graph at the end of a superstep.
    """
    options = {
        "context": known_context(graph, kwargs["context"]),
        "stream_mode": graph_modes(kwargs["stream_mode"]),
        "subgraphs": kwargs["subgraphs"],
        "interrupt_before": kwargs["interrupt_before"],
        "interrupt_after": kwargs["interrupt_after"],
        "durability": kwargs["durability"],
        # Without ``output_keys`` LangGraph streams the whole state, with private keys.
        "output_keys": graph.output_channels,
        "control": control,
    }
    if "events" not in kwargs["stream_mode"]:
        return cast("AsyncIterator[Part]", graph.astream(given, config, **options))
    return _with_events(graph, given, config, options)


async def _with_events(
    graph: Any, given: Any, config: RunnableConfig, options: dict[str, Any]
) -> AsyncIterator[Part]:
    run_id = str(config["run_id"])
    async for item in graph.astream_events(given, config, version="v2", **options):
        if _HIDDEN in (item.get("tags") or ()):
            continue
        if item["event"] == "on_chain_stream" and item["run_id"] == run_id:
            # This event carries a chunk of another stream mode of the run.
            yield item["data"]["chunk"]
        else:
            yield "events", item
