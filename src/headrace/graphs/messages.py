"""The list of messages of the built-in graph. Each step stores only what it adds.

``MessagesState`` stores the whole list at every step: a thread of n messages costs O(n^2) bytes.
LangGraph's ``DeltaChannel`` (beta) stores the writes of each step, and the whole list once in a
while. A read replays the writes since then.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict, cast

from langchain_core.messages import AnyMessage, BaseMessage, BaseMessageChunk, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite
from langgraph.graph.message import add_messages

from headrace.checkpoints.upstream import GIVES_IDS

#: The whole list is stored once in so many writes to the channel.
#:
#: Let f be this number. A turn writes the list twice, so every f/2-th turn stores the whole list.
#: With messages of 200 bytes, a turn sends c = 4.1 kB (three checkpoints, the writes), and a stored
#: list has m = 0.42 kB for each message. So turn n, with 2n messages, sends c + 2n m / (f/2) on
#: average. That is 2c at n = c f / 4m; to stay below 2c at turn 500, f must be above 205. With
#: f = 400, turn 500 sends 1.5 times as much as the first turns; with MessagesState, 43 times as
#: much. A larger f makes reads slow: a read replays up to f writes, out of 3f/2 checkpoints. These
#: 600 checkpoints are still within one page (1024) of the saver's walk.
SNAPSHOT_FREQUENCY = 400


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """Messages merged by ``add_messages``, stored one step at a time.

    Each read replays the writes, so each message must have an id before it is stored: otherwise
    ``add_messages`` would give it a new id in every read. LangGraph gives ids to all forms of
    messages, also texts and pairs, but only for its own reducer. So this channel shows that reducer
    to LangGraph, and merges with :func:`merge`: LangGraph's reducer does not know
    ``REMOVE_ALL_MESSAGES``, and accepts the removal of an unknown message.
    """

    def __init__(
        self,
        reducer: Callable[[Any, Sequence[Any]], Any] = GIVES_IDS,
        typ: type[list[AnyMessage]] | None = None,
        *,
        snapshot_frequency: int = SNAPSHOT_FREQUENCY,
    ) -> None:
        super().__init__(reducer, typ, snapshot_frequency=snapshot_frequency)

    def update(self, values: Sequence[Any]) -> bool:
        merging = self._merging()
        changed = merging.update(values)
        self.value = merging.value
        return changed

    def replay_writes(self, writes: Sequence[PendingWrite]) -> None:
        merging = self._merging()
        merging.replay_writes(writes)
        self.value = merging.value

    def _merging(self) -> DeltaChannel[list[AnyMessage]]:
        """LangGraph's channel with this one's value, and with :func:`merge`."""
        channel: DeltaChannel[list[AnyMessage]] = DeltaChannel(merge, self.typ)
        channel.key, channel.value = self.key, self.value
        return channel


class ChatState(TypedDict):
    """Like ``MessagesState`` for readers. Threads of earlier releases can be read too."""

    messages: Annotated[list[AnyMessage], MessagesChannel()]


def merge(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """Merge the writes into the messages, with the result of ``add_messages`` for each write.

    The result does not depend on how the writes are divided into calls. No argument is changed.

    :raises ValueError: as ``add_messages``: a message to remove does not exist.
    """
    merged = _typed(messages)
    places = _places(merged)
    for write in writes:
        added = write if isinstance(write, list) else [write]
        if not all(_is_plain(one) for one in added):
            merged = cast(list[AnyMessage], add_messages(merged, write))  # type: ignore[arg-type]
            places = _places(merged)
            continue
        for message in added:
            place = places.setdefault(message.id, len(merged))
            if place == len(merged):
                merged.append(message)
            else:
                merged[place] = message
    return merged


def _is_plain(one: Any) -> bool:
    """Whether it is a message to append, or to replace the one with its id."""
    return (
        isinstance(one, BaseMessage)
        and one.id is not None
        and not isinstance(one, RemoveMessage | BaseMessageChunk)
    )


def _typed(messages: list[AnyMessage]) -> list[AnyMessage]:
    """A new list of messages that all have ids."""
    if all(_is_plain(message) for message in messages):
        return list(messages)
    return cast(list[AnyMessage], add_messages(messages, []))  # type: ignore[arg-type]


def _places(messages: list[AnyMessage]) -> dict[str | None, int]:
    return {message.id: place for place, message in enumerate(messages)}
