"""Translates LangGraph's stream chunks into events of the HTTP API.

The API has two modes for LangGraph's ``messages``. ``messages`` sends the message so far with each
chunk (``messages/partial``); ``messages-tuple`` sends LangGraph's chunks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    message_chunk_to_message,
)
from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamMode as GraphMode

from headrace.events.json_encoding import Repeated, message_form

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

#: The executor always needs these modes, for the result and to see whether it is final.
_ALWAYS = ("values", "updates")

#: The keys of a configuration that name a checkpoint.
_CHECKPOINT_KEYS = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")

#: The name of an event, and its value.
NamedValue = tuple[str, Any]

#: The graph begins, ends, fails, stops because another attempt will go on, or waits for an answer.
Moment = Literal["begins", "ends", "fails", "stops", "waits"]


def graph_modes(requested: Iterable[str]) -> list[GraphMode]:
    """The modes to ask LangGraph for so that ``requested`` can be served."""
    wanted = {"messages" if mode == "messages-tuple" else mode for mode in requested}
    # A mode of LangChain: the executor gets these events from astream_events().
    wanted.discard("events")
    return cast("list[GraphMode]", sorted(wanted | set(_ALWAYS)))


@dataclass(slots=True)
class Translator:
    """Translates the chunks of one run. It keeps the messages so far for ``messages``."""

    requested: frozenset[str]
    #: LangGraph gives one object with all chunks of a message.
    _metadata: Repeated = field(default_factory=Repeated)
    _accumulated: dict[str, BaseMessageChunk] = field(default_factory=dict)
    _announced: set[str] = field(default_factory=set)

    def shows(self, mode: str) -> bool:
        """Whether chunks of this mode become events."""
        return mode in self.requested or (mode == "messages" and "messages-tuple" in self.requested)

    def at(self, moment: Moment, told: Any = None) -> Sequence[NamedValue]:
        """The events of a moment of the graph itself: there are none in these modes."""
        return ()

    def events(self, namespace: tuple[str, ...], mode: str, chunk: Any) -> Sequence[NamedValue]:
        """The events of a chunk, in order. Encode their values before the next call."""
        if mode == "messages":
            return self._of_message(namespace, *chunk)
        if mode not in self.requested:
            return ()
        return ((_named(mode, namespace), _placed(chunk) if mode == "debug" else chunk),)

    def _of_message(
        self, namespace: tuple[str, ...], message: BaseMessage, metadata: dict[str, Any]
    ) -> Sequence[NamedValue]:
        told: list[NamedValue] = []
        if "messages-tuple" in self.requested:
            pair = [message_form(message), self._metadata.form(metadata)]
            told.append((_named("messages", namespace), pair))
        if "messages" in self.requested:
            told += self._so_far(message, metadata)
        return told

    def _so_far(self, message: BaseMessage, metadata: dict[str, Any]) -> Sequence[NamedValue]:
        told: list[NamedValue] = []
        key = message.id or ""
        if key not in self._announced:
            self._announced.add(key)
            told.append(("messages/metadata", {key: {"metadata": metadata}}))
        if not isinstance(message, BaseMessageChunk):
            told.append(("messages/complete", [message]))
            return told
        so_far = self._accumulated.get(key)
        whole = message if so_far is None else so_far + message
        assert isinstance(whole, BaseMessageChunk)
        self._accumulated[key] = whole
        told.append(("messages/partial", [message_chunk_to_message(whole)]))
        return told


def _named(mode: str, namespace: tuple[str, ...]) -> str:
    return "|".join((mode, *namespace)) if namespace else mode


def _placed(item: dict[str, Any]) -> dict[str, Any]:
    """A debug item. If it is about a checkpoint, it gets two fields that states have."""
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
    return {key: value for key, value in config["configurable"].items() if key in _CHECKPOINT_KEYS}
