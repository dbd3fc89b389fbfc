"""The list of messages of the built-in graph. Each step stores only what it adds.

``MessagesState`` stores the whole list at every step: a thread of n messages costs O(n^2) bytes.
LangGraph's ``DeltaChannel`` (beta) stores the writes of each step, and the whole list once in a
while. A read replays the writes since then.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self, TypedDict, cast

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite

from headrace.checkpoints.channel_memory import RememberedWrites
from headrace.checkpoints.upstream import GIVES_IDS, DeltaSnapshot
from headrace.graphs.conversation import Conversation

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


class _Remembered(DeltaSnapshot):  # type: ignore[misc]
    """A whole value that was never stored: this process has kept it."""

    @property
    def value(self) -> list[AnyMessage]:
        return self.conversation.messages()

    @property
    def conversation(self) -> Conversation:
        return cast(Conversation, self[0])


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """Messages merged by ``add_messages``, stored one step at a time.

    Each read replays the writes, so each message must have an id before it is stored: otherwise
    ``add_messages`` would give it a new id in every read. LangGraph gives ids to all forms of
    messages, also texts and pairs, but only for its own reducer. So this channel shows that reducer
    to LangGraph, and merges with :func:`merge`: LangGraph's reducer does not know
    ``REMOVE_ALL_MESSAGES``, and accepts the removal of an unknown message.

    The process remembers the messages, so nodes must not change one in place.
    """

    # The value is a Conversation, or a list that nothing was added to yet.
    __slots__ = ("_frequency", "_list")

    def __init__(
        self,
        reducer: Callable[[Any, Sequence[Any]], Any] = GIVES_IDS,
        typ: type[list[AnyMessage]] | None = None,
        *,
        snapshot_frequency: int = SNAPSHOT_FREQUENCY,
    ) -> None:
        #: The value as readers got it, and the conversation that it is of.
        self._list: tuple[Conversation, list[AnyMessage]] | None = None
        super().__init__(reducer, typ, snapshot_frequency=snapshot_frequency)

    @property
    def snapshot_frequency(self) -> int:
        """After so many writes LangGraph stores the whole list."""
        length = len(self.value) if isinstance(self.value, list | Conversation) else 0
        return max(self._frequency, length // 2)

    @snapshot_frequency.setter
    def snapshot_frequency(self, writes: int) -> None:
        self._frequency = writes

    def copy(self) -> Self:
        new = super().copy()
        new.snapshot_frequency = self._frequency
        new._list = self._list
        return new

    def from_checkpoint(self, checkpoint: Any) -> Self:
        remembered = isinstance(checkpoint, _Remembered)
        new = super().from_checkpoint(None if remembered else checkpoint)
        new.snapshot_frequency = self._frequency
        if remembered:
            new.value = checkpoint.conversation
        return new

    def get(self) -> list[AnyMessage]:
        value = super().get()
        if not isinstance(value, Conversation):
            return cast(list[AnyMessage], value)
        if self._list is None or self._list[0] is not value:
            self._list = (value, value.messages())
        return self._list[1]

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
            self.value = _conversation(self.value)
            writes.remember(_Remembered(self.value))

    def _merging(self) -> DeltaChannel[list[AnyMessage]]:
        """LangGraph's channel with this one's value, and with the rules of a conversation."""
        channel: DeltaChannel[list[AnyMessage]] = DeltaChannel(_merge, self.typ)
        channel.key, channel.value = self.key, self.value
        return channel


class ChatState(TypedDict):
    """Like ``MessagesState`` for readers. Threads of earlier releases can be read too."""

    messages: Annotated[list[AnyMessage], MessagesChannel()]


def _merge(value: list[AnyMessage] | Conversation, writes: Sequence[Any]) -> Any:
    return _conversation(value).after(writes)


def _conversation(value: list[AnyMessage] | Conversation) -> Conversation:
    return value if isinstance(value, Conversation) else Conversation.of(value)
