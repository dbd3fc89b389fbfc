"""What of a configuration is stored with each checkpoint: ids, and the run's metadata, bounded.

LangGraph copies whatever text or number stands in ``configurable`` into each checkpoint's metadata:
a password too, and a text of megabytes once for each step. Of ``configurable`` only ids are kept
here; of ``metadata``, which callers give in order to find their checkpoints by it, what is short.
"""

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

#: Who and what made a checkpoint.
_IDS = frozenset(
    (
        "run_id",
        "thread_id",
        "graph_id",
        "assistant_id",
        "user_id",
        "run_attempt",
        "langgraph_auth_user_id",
        "langgraph_request_id",
    )
)
#: What the saver itself reads.
_PLACE = frozenset(("thread_id", "checkpoint_ns", "checkpoint_id"))
_MAX_CHARACTERS = 1000
#: Keys and values of metadata together.
_MAX_TOTAL = 8 * 1024


def stored_config(config: RunnableConfig) -> RunnableConfig:
    """The configuration with nothing in it that a checkpoint is not to hold."""
    configurable = config["configurable"]
    ids = {
        key: value
        for key, value in configurable.items()
        if key in _PLACE or (key in _IDS and _size(value) <= _MAX_CHARACTERS)
    }
    metadata = _short(config.get("metadata") or {}, configurable)
    return cast("RunnableConfig", {**config, "configurable": ids, "metadata": metadata})


def _short(metadata: Mapping[str, Any], configurable: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    left = _MAX_TOTAL
    for key, value in metadata.items():
        # Releases of LangGraph before 1.2 copy configurable into metadata themselves.
        copied = key in configurable and key not in _IDS
        if copied or not isinstance(value, str | int | float) or _size(value) > _MAX_CHARACTERS:
            continue
        left -= 0 if key in _IDS else len(key) + _size(value)
        if left >= 0 or key in _IDS:
            kept[key] = value
    return kept


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return value.bit_length() if isinstance(value, int) else 0
