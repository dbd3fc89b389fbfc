"""LangGraph's stream chunks as the events of the HTTP API.

The API has one mode more than LangGraph: ``messages`` sends each message accumulated so far
(``messages/partial``), ``messages-tuple`` sends LangGraph's own chunks. The clients expect both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
)
from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamMode as GraphMode

StreamMode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "debug",
    "checkpoints",
    "tasks",
    "events",
]
STREAM_MODES: tuple[str, ...] = get_args(StreamMode)

#: Read by the executor whatever the client asked for: the result, and whether it is final.
_ALWAYS = ("values", "updates")

#: What a configuration says of where a checkpoint is.
_PLACE = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")

Event = tuple[str, Any]


def graph_modes(requested: Iterable[str]) -> list[GraphMode]:
    """The modes to ask LangGraph for so that ``requested`` can be served."""
    wanted = {"messages" if mode == "messages-tuple" else mode for mode in requested}
    # LangChain's own: not asked of the graph but of whatever runs it.
    wanted.discard("events")
    return cast("list[GraphMode]", sorted(wanted | set(_ALWAYS)))


@dataclass(slots=True)
class Translator:
    """Turns one run's chunks into events; keeps what ``messages`` has accumulated."""

    requested: frozenset[str]
    _accumulated: dict[str, BaseMessageChunk] = field(default_factory=dict)
    _announced: set[str] = field(default_factory=set)

    def events(self, namespace: tuple[str, ...], mode: str, chunk: Any) -> Iterator[Event]:
        suffix = "".join(f"|{part}" for part in namespace)
        if mode == "messages":
            message, metadata = chunk
            if "messages-tuple" in self.requested:
                yield f"messages{suffix}", [message, metadata]
            if "messages" in self.requested:
                yield from self._messages(message, metadata)
        elif mode in self.requested:
            yield f"{mode}{suffix}", _placed(chunk) if mode == "debug" else chunk

    def _messages(self, message: BaseMessage, metadata: dict[str, Any]) -> Iterator[Event]:
        key = message.id or ""
        if key not in self._announced:
            self._announced.add(key)
            yield "messages/metadata", {key: {"metadata": metadata}}
        if not isinstance(message, BaseMessageChunk):
            yield "messages/complete", [message]
            return
        so_far = self._accumulated.get(key)
        whole = message if so_far is None else so_far + message
        assert isinstance(whole, BaseMessageChunk)
        self._accumulated[key] = whole
        yield "messages/partial", [message_chunk_to_message(whole)]


def _placed(item: dict[str, Any]) -> dict[str, Any]:
    """A debug item; one of a checkpoint names it and its parent as states do."""
    payload = item["payload"]
    if item["type"] != "checkpoint":
        return item
    places = {
        "checkpoint": _place(payload["config"]),
        "parent_checkpoint": _place(payload["parent_config"]),
    }
    return {**item, "payload": {**payload, **places}}


def _place(config: RunnableConfig | None) -> dict[str, Any] | None:
    if config is None:
        return None
    return {key: value for key, value in config["configurable"].items() if key in _PLACE}
