"""The list of messages of the built-in graph. Each step stores only what it adds.

``MessagesState`` stores the whole list at every step: a thread of n messages costs O(n^2) bytes.
LangGraph's ``DeltaChannel`` (beta) stores the writes of each step, and the whole list once in a
while. A read replays the writes since then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypedDict, cast

from langchain_core.messages import AnyMessage, BaseMessage, BaseMessageChunk, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite
from langgraph.graph.message import add_messages

from headrace.checkpoints.channel_memory import RememberedWrites
from headrace.checkpoints.upstream import GIVES_IDS, DeltaSnapshot

#: The whole list is stored after so many writes to the channel, or after as many writes as the list
#: has messages halved, whichever is more.
#:
#: A turn writes the list twice. With a fixed number f, every f/2-th turn would store a list of 2n
#: messages at turn n: the cost of a turn would grow with n, and be dominated by that list from turn
#: 2,000 on. So the distance grows with the list: each stored list is about twice as long as the one
#: before it, and over a whole conversation stored lists take about twice the bytes of the messages.
#: LangGraph stores the list after 5,000 steps in any case.
#:
#: A larger f makes first reads slow: a process that has no value of the thread yet replays up to f
#: writes, out of 3f/2 checkpoints.
SNAPSHOT_FREQUENCY = 400


#: So many new ids are looked up apart before they join the others.
_NEW_IDS = 256


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that all have ids, and where each of them is.

    Nothing of it ever changes. ``places`` has the ids of old messages, and is shared with the
    conversations that grow out of this one; ``new_places`` has those of the others.
    """

    messages: list[AnyMessage]
    places: dict[str | None, int]
    new_places: dict[str | None, int]

    @classmethod
    def of(cls, messages: list[AnyMessage]) -> Self:
        typed = _typed(messages)
        return cls(typed, _places(typed), {})

    def after(self, writes: Sequence[Any]) -> "Conversation":
        """The conversation with ``writes``.

        It costs a copy of the list, and work for each message that is written.

        :raises ValueError: as ``add_messages``: a message to remove does not exist.
        """
        merged, old, new = list(self.messages), self.places, dict(self.new_places)
        for write in writes:
            added = write if isinstance(write, list) else [write]
            if not all(_is_plain(one) for one in added):
                merged = cast(list[AnyMessage], add_messages(merged, write))  # type: ignore[arg-type]
                old, new = _places(merged), {}
                continue
            for message in added:
                place = new.get(message.id, old.get(message.id))
                if place is None:
                    new[message.id] = len(merged)
                    merged.append(message)
                else:
                    merged[place] = message
        return Conversation(merged, *((old, new) if len(new) < _NEW_IDS else ({**old, **new}, {})))


class _Remembered(DeltaSnapshot):  # type: ignore[misc]
    """A whole value that was never stored: this process has kept it."""

    conversation: Conversation


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """Messages merged by ``add_messages``, stored one step at a time.

    Each read replays the writes, so each message must have an id before it is stored: otherwise
    ``add_messages`` would give it a new id in every read. LangGraph gives ids to all forms of
    messages, also texts and pairs, but only for its own reducer. So this channel shows that reducer
    to LangGraph, and merges with :func:`merge`: LangGraph's reducer does not know
    ``REMOVE_ALL_MESSAGES``, and accepts the removal of an unknown message.

    The process remembers the value, so nodes must not change the list or its messages in place.
    """

    __slots__ = ("_conversation", "_frequency")

    def __init__(
        self,
        reducer: Callable[[Any, Sequence[Any]], Any] = GIVES_IDS,
        typ: type[list[AnyMessage]] | None = None,
        *,
        snapshot_frequency: int = SNAPSHOT_FREQUENCY,
    ) -> None:
        #: The value with its places; of an earlier value if its list is not this one's.
        self._conversation: Conversation | None = None
        super().__init__(reducer, typ, snapshot_frequency=snapshot_frequency)

    @property
    def snapshot_frequency(self) -> int:
        """After so many writes LangGraph stores the whole list."""
        length = len(self.value) if isinstance(self.value, list) else 0
        return max(self._frequency, length // 2)

    @snapshot_frequency.setter
    def snapshot_frequency(self, writes: int) -> None:
        self._frequency = writes

    def copy(self) -> Self:
        new = super().copy()
        new.snapshot_frequency = self._frequency
        return new

    def from_checkpoint(self, checkpoint: Any) -> Self:
        new = super().from_checkpoint(checkpoint)
        new.snapshot_frequency = self._frequency
        if isinstance(checkpoint, _Remembered):
            new._conversation = checkpoint.conversation
        return new

    def update(self, values: Sequence[Any]) -> bool:
        merging = self._merging()
        changed = merging.update(values)
        self.value = merging.value
        return changed

    def replay_writes(self, writes: Sequence[PendingWrite]) -> None:
        merging = self._merging()
        merging.replay_writes(writes)
        self.value = merging.value
        if isinstance(writes, RememberedWrites):
            seed = _Remembered(self.value)
            seed.conversation = self._of(self.value)
            writes.remember(seed)

    def _merging(self) -> DeltaChannel[list[AnyMessage]]:
        """LangGraph's channel with this one's value, and with :func:`merge`."""
        channel: DeltaChannel[list[AnyMessage]] = DeltaChannel(self._merge, self.typ)
        channel.key, channel.value = self.key, self.value
        return channel

    def _merge(self, messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
        self._conversation = self._of(messages).after(writes)
        return self._conversation.messages

    def _of(self, messages: list[AnyMessage]) -> Conversation:
        known = self._conversation
        return known if known and known.messages is messages else Conversation.of(messages)


class ChatState(TypedDict):
    """Like ``MessagesState`` for readers. Threads of earlier releases can be read too."""

    messages: Annotated[list[AnyMessage], MessagesChannel()]


def merge(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """Merge the writes into the messages, with the result of ``add_messages`` for each write.

    The result does not depend on how the writes are divided into calls. No argument is changed.

    :raises ValueError: as ``add_messages``: a message to remove does not exist.
    """
    return Conversation.of(messages).after(writes).messages


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
