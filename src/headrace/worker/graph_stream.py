"""The stream of a graph: what it streams in each mode that is needed."""

from collections.abc import AsyncIterator
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from headrace.checkpoints.upstream import STREAMS_BLOCKS
from headrace.events.modes import Translator, graph_modes
from headrace.events.protocol_events import PROTOCOL_MODES, ProtocolTranslator
from headrace.graphs.context import known_context
from headrace.graphs.resumes import is_map
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
    if is_of_protocol(kwargs):
        return _of_protocol(graph, given, config, options)
    if "events" not in kwargs["stream_mode"]:
        return cast("AsyncIterator[Part]", graph.astream(given, config, **options))
    return _with_events(graph, given, config, options)


def is_of_protocol(kwargs: dict[str, Any]) -> bool:
    """Whether the run was started through the streaming protocol v3."""
    return kwargs.get("protocol") == "v3"


def translator_for(kwargs: dict[str, Any], graph_id: str) -> Translator | ProtocolTranslator:
    """What makes events of the graph's chunks."""
    if not is_of_protocol(kwargs):
        return Translator(frozenset(kwargs["stream_mode"]))
    resume = (kwargs["command"] or {}).get("resume")
    return ProtocolTranslator(graph_id, list(resume or ()) if is_map(resume) else ())


async def _of_protocol(
    graph: Any, given: Any, config: RunnableConfig, options: dict[str, Any]
) -> AsyncIterator[Part]:
    blocks = {**config, "configurable": {**config["configurable"], STREAMS_BLOCKS: True}}
    options = {**options, "stream_mode": list(PROTOCOL_MODES), "subgraphs": True}
    async for part in graph.astream(given, blocks, version="v2", **options):
        chunk = part["data"]
        if part.get("interrupts") and type(chunk) is dict:
            # As in the other forms of the stream.
            chunk = {**chunk, "__interrupt__": part["interrupts"]}
        yield part["ns"], part["type"], chunk


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
