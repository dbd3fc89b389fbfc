"""The values of a checkpoint, read without the graph that wrote it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from headrace.checkpoints.upstream import without_snapshot
from headrace.graphs.conversation import merge

#: The key of a checkpoint's metadata where LangGraph counts the steps of channels that are stored
#: step by step.
_COUNTERS = "counters_since_delta_snapshot"

#: Names of LangGraph's internal channels begin like this.
_INTERNAL = ("__", "branch:", "start:")


async def raw_values(saver: BaseCheckpointSaver[Any], found: CheckpointTuple) -> dict[str, Any]:
    """The values of all channels except internal ones.

    Messages that are stored step by step are put together. Other values that are stored step by
    step are left out, because only their graph can put them together.
    """
    values = {
        name: without_snapshot(value) for name, value in found.checkpoint["channel_values"].items()
    }
    counters = cast(Mapping[str, Any], found.metadata.get(_COUNTERS) or {})
    if stepwise := [name for name in counters if name not in values]:
        histories = await saver.aget_delta_channel_history(config=found.config, channels=stepwise)
        for name, history in histories.items():
            start = without_snapshot(history.get("seed", []))
            writes = [value for _, _, value in history["writes"]]
            if all(_are_messages(part) for part in (start, *writes)):
                values[name] = merge(start, writes)
    return {name: value for name, value in values.items() if not name.startswith(_INTERNAL)}


def visible_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata without LangGraph's notes on how it stores the thread."""
    return {name: value for name, value in (metadata or {}).items() if name != _COUNTERS}


def _are_messages(part: Any) -> bool:
    parts: Sequence[Any] = part if isinstance(part, list) else [part]
    return all(isinstance(one, BaseMessage) for one in parts)
