"""What of a configuration is stored with each checkpoint: ids, and the run's metadata, bounded.

LangGraph copies whatever text or number stands in ``configurable`` into each checkpoint's metadata:
a password too, and a text of megabytes once for each step. Of a run's ``configurable`` only ids are
kept here, and of ``metadata``, which callers give in order to find their checkpoints by it, what is
short. A graph that is called without a run is its developer's: LangGraph's copy stays there, except
for what is long or has the name of a secret.
"""

from collections.abc import Mapping, Set
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
#: Parts of names; LangGraph passes over the same ones elsewhere.
_SECRETS = ("key", "token", "secret", "password", "auth")
_MAX_CHARACTERS = 1000
#: Keys and values of metadata together.
_MAX_TOTAL = 8 * 1024


def stored_config(config: RunnableConfig, *, ids_only: bool) -> RunnableConfig:
    """The configuration with nothing in it that a checkpoint is not to hold.

    :param ids_only: it is a run's.
    """
    configurable = config["configurable"]
    kept = {
        key: value
        for key, value in configurable.items()
        if key in _PLACE
        or (_size(value) <= _MAX_CHARACTERS and (key in _IDS or not (ids_only or _is_secret(key))))
    }
    metadata = _short(config.get("metadata") or {}, configurable.keys() - kept.keys())
    return cast("RunnableConfig", {**config, "configurable": kept, "metadata": metadata})


def _is_secret(key: str) -> bool:
    lower = key.casefold()
    return any(word in lower for word in _SECRETS)


def _short(metadata: Mapping[str, Any], left_out: Set[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    left = _MAX_TOTAL
    for key, value in metadata.items():
        # Releases of LangGraph before 1.2 copy configurable into metadata themselves.
        if (
            key in left_out
            or not isinstance(value, str | int | float)
            or _size(value) > _MAX_CHARACTERS
        ):
            continue
        left -= 0 if key in _IDS else len(key) + _size(value)
        if left >= 0 or key in _IDS:
            kept[key] = value
    return kept


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return value.bit_length() if isinstance(value, int) else 0
