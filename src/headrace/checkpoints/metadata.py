"""Chooses what of a configuration is stored with each checkpoint: ids, and the run's metadata,
bounded.

LangGraph copies every text or number in ``configurable`` into each checkpoint's metadata: also a
password, and a text of megabytes once for each step. For a run, only ids of ``configurable`` are
kept here, and short values of ``metadata``, which callers set to find their checkpoints. A graph
that is called without a run belongs to its developer: LangGraph's copy stays, except for long
values and names of secrets.
"""

from collections.abc import Mapping, Set
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

#: Ids of what made a checkpoint.
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
#: Keys that the saver itself reads.
_PLACE = frozenset(("thread_id", "checkpoint_ns", "checkpoint_id"))
#: Parts of names of secrets; LangGraph skips these names elsewhere.
_SECRETS = ("key", "token", "secret", "password", "auth")
_MAX_CHARACTERS = 1000
#: Most bytes of keys and values of metadata together.
_MAX_TOTAL = 8 * 1024


def stored_config(config: RunnableConfig, *, ids_only: bool) -> RunnableConfig:
    """The configuration without what a checkpoint must not hold.

    :param ids_only: it is the configuration of a run.
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
