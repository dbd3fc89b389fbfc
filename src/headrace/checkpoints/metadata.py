"""Chooses the part of a configuration that each checkpoint stores: ids, and a bounded part of the
run's metadata.

LangGraph copies every text and number of ``configurable`` into the metadata of each checkpoint,
also passwords. It copies a text of megabytes again at each step. For a run, this module keeps only
the ids of ``configurable``, and short values of ``metadata``: callers set those to find their
checkpoints. A graph that is called without a run belongs to its developer. There LangGraph's copy
stays, without long values and without keys that look like secrets.
"""

from collections.abc import Mapping, Set
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, get_serializable_checkpoint_metadata

#: What made a checkpoint; a cron's run has the last two.
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
        "cron_id",
        "cron_slot",
    )
)
#: Keys that the saver itself reads.
_PLACE = frozenset(("thread_id", "checkpoint_ns", "checkpoint_id"))
#: A key with one of these words looks like a secret. LangGraph skips such keys elsewhere.
_SECRETS = ("key", "token", "secret", "password", "auth")
#: A longer value is left out. An integer counts its bits, a float nothing.
_MAX_CHARACTERS = 1000
#: Characters of keys and values of metadata together, without ids; integers count their bits.
_MAX_TOTAL = 8 * 1024


def stored_config(config: RunnableConfig, *, ids_only: bool) -> RunnableConfig:
    """The configuration without the parts that a checkpoint must not store.

    :param ids_only: keep only ids of ``configurable``: the configuration belongs to a run.
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


def stored_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> CheckpointMetadata:
    """What is stored with a checkpoint outside of runs."""
    return get_serializable_checkpoint_metadata(stored_config(config, ids_only=False), metadata)


class RunMetadata:
    """The part of a run's checkpoints' metadata that its configuration gives.

    LangGraph hands over the same metadata with each checkpoint of a graph, so the part is made
    once. Only a subgraph, or a node that calls a graph with other ids, brings another one.
    """

    __slots__ = ("_given", "_ids", "_keys", "_part")

    def __init__(self) -> None:
        self._given: Any = None
        self._keys = -1
        self._ids: list[Any] = []
        self._part: CheckpointMetadata = {}

    def of(self, config: RunnableConfig, metadata: CheckpointMetadata) -> CheckpointMetadata:
        """What is stored with a checkpoint: ``metadata``, and the part of its configuration."""
        given, configurable = config.get("metadata"), config["configurable"]
        ids = [configurable.get(key) for key in _IDS]
        keys = len(configurable) + len(given or ())
        if given is not self._given or keys != self._keys or ids != self._ids:
            self._given, self._keys, self._ids = given, keys, ids
            self._part = get_serializable_checkpoint_metadata(
                stored_config(config, ids_only=True), {}
            )
        own = get_serializable_checkpoint_metadata({}, metadata)
        return cast("CheckpointMetadata", {**self._part, **own})


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
