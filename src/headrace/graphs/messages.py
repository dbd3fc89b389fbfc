"""The list of messages of the built-in graph, stored as what each step adds to it.

``MessagesState`` stores the whole list at every step: a thread of n messages costs O(n^2) bytes. A
``DeltaChannel`` (LangGraph's, in beta) stores each step's writes, and the whole list once in a
while; a read replays the writes since.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict, cast

from langchain_core.messages import AnyMessage, BaseMessage, BaseMessageChunk, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite
from langgraph.graph.message import add_messages

from headrace.checkpoints.upstream import GIVES_IDS

#: Writes to the channel between two that store the whole list.
#:
#: A turn writes it twice, so every f/2-th turn stores it whole. With messages of 200 bytes a turn
#: sends c = 4.1 kB of its own (three checkpoints, the writes), and a stored list m = 0.42 kB for
#: each message. Turn n, with 2n messages, thus sends c + 2n m / (f/2) on the average, which is 2c
#: at n = c f / 4m: for n = 500, f must be above 205. 400 makes it 1.5 times the first turns at turn
#: 500, where MessagesState sends 43 times. More would cost whoever reads: up to f writes are
#: replayed, out of 3f/2 checkpoints, and those still fit one page (1024) of the saver's walk.
SNAPSHOT_FREQUENCY = 400


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """Messages merged by ``add_messages``, written down one step at a time.

    Writes are replayed on every read, so each message must have its id before it is written: one
    that ``add_messages`` made up while replaying would be another in every read. LangGraph gives
    ids to whatever ``add_messages`` takes, text and pairs included, only where it knows the
    reducer to be its own. So that one is what this channel shows, and not what it merges with: it
    knows no ``REMOVE_ALL_MESSAGES`` and lets the removal of an unknown message pass.
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
        """Upstream's channel with this one's value, and what it merges with."""
        channel: DeltaChannel[list[AnyMessage]] = DeltaChannel(merge, self.typ)
        channel.key, channel.value = self.key, self.value
        return channel


class ChatState(TypedDict):
    """``MessagesState`` to whoever reads it, its threads of earlier releases included."""

    messages: Annotated[list[AnyMessage], MessagesChannel()]


def merge(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """What ``add_messages`` makes of one write after the other, in one pass where it can.

    A fold, so it does not matter how the writes are cut into batches. Neither argument is changed.

    :raises ValueError: as ``add_messages`` does, for the removal of a message that is not there.
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
    """Whether it is a message to be appended, or to take the place of the one with its id."""
    return (
        isinstance(one, BaseMessage)
        and one.id is not None
        and not isinstance(one, RemoveMessage | BaseMessageChunk)
    )


def _typed(messages: list[AnyMessage]) -> list[AnyMessage]:
    """A list of its own."""
    if all(_is_plain(message) for message in messages):
        return list(messages)
    return cast(list[AnyMessage], add_messages(messages, []))  # type: ignore[arg-type]


def _places(messages: list[AnyMessage]) -> dict[str | None, int]:
    return {message.id: place for place, message in enumerate(messages)}
