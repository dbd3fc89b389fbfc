"""Messages of a conversation, with which a step costs what it adds, not what is there already.

A copy of a list of 20,000 messages takes a fraction of a millisecond, and the same again when it is
dropped, because each message's count of references changes. A turn made five of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self, cast

from langchain_core.messages import AnyMessage, BaseMessage, BaseMessageChunk, RemoveMessage
from langgraph.graph.message import add_messages

__all__ = ["Conversation", "merge"]

#: So many new ids are looked up apart before they join the others.
_NEW_IDS = 256


class _Log:
    """Messages that conversations share: each has the first of them, as many as it says.

    It only grows, and only at its end: for the first conversation that goes on from there. Runs and
    reads of a thread, also in threads of the process, may do so at the same time.
    """

    __slots__ = ("_growing", "messages")

    def __init__(self, messages: list[AnyMessage]) -> None:
        self.messages = messages
        self._growing = Lock()

    def after(self, length: int, added: list[AnyMessage]) -> "_Log":
        """A log of the first ``length`` messages and then ``added``: this one if it ends there, or
        goes on with messages that are the same. So it does when a turn replays the turn before it.
        """
        with self._growing:
            if len(self.messages) == length:
                self.messages.extend(added)
                return self
            if self.messages[length : length + len(added)] == added:
                return self
        return _Log(self.messages[:length] + added)


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """Messages that all have ids, and where each of them is.

    Nothing of it ever changes. ``places`` has the ids of old messages, and is shared with the
    conversations that grow out of this one; ``new_places`` has those of the others.
    """

    _log: _Log
    _length: int
    _places: dict[str | None, int]
    _new_places: dict[str | None, int]

    @classmethod
    def of(cls, messages: list[AnyMessage]) -> Self:
        """It costs a copy of the list, and an entry for each id."""
        typed = _typed(messages)
        return cls(_Log(typed), len(typed), _places(typed), {})

    def __len__(self) -> int:
        return self._length

    def __copy__(self) -> Self:
        return self

    def messages(self) -> list[AnyMessage]:
        """A new list of them."""
        return self._log.messages[: self._length]

    def after(self, writes: Sequence[Any]) -> "Conversation":
        """The conversation with ``writes``, as ``add_messages`` would merge each of them.

        Messages with new ids cost what they are. What replaces or removes a message costs a copy of
        the list.

        :raises ValueError: as ``add_messages``: a message to remove does not exist.
        """
        added = [one for write in writes for one in _listed(write)]
        new = self._places_of(added)
        if new is None:
            return self._merged(writes)
        log = self._log.after(self._length, added)
        places = _joined(self._places, {**self._new_places, **new})
        return Conversation(log, self._length + len(added), *places)

    def _places_of(self, added: list[AnyMessage]) -> dict[str | None, int] | None:
        """Where messages will be at the end; None if some do not just go there."""
        if not all(_is_plain(one) for one in added):
            return None
        places = {one.id: place for place, one in enumerate(added, self._length)}
        if len(places) < len(added):
            return None
        known = any(id in self._places or id in self._new_places for id in places)
        return None if known else places

    def _merged(self, writes: Sequence[Any]) -> "Conversation":
        messages, old, new = self.messages(), self._places, dict(self._new_places)
        for write in writes:
            added = _listed(write)
            if not all(_is_plain(one) for one in added):
                messages = cast(list[AnyMessage], add_messages(messages, write))  # type: ignore[arg-type]
                old, new = _places(messages), {}
                continue
            for message in added:
                place = new.get(message.id, old.get(message.id))
                if place is None:
                    new[message.id] = len(messages)
                    messages.append(message)
                else:
                    messages[place] = message
        return Conversation(_Log(messages), len(messages), *_joined(old, new))


def merge(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """Merge the writes into the messages, with the result of ``add_messages`` for each write.

    The result does not depend on how the writes are divided into calls. No argument is changed.

    :raises ValueError: as ``add_messages``: a message to remove does not exist.
    """
    return Conversation.of(messages).after(writes).messages()


def _listed(write: Any) -> list[Any]:
    return write if isinstance(write, list) else [write]


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


def _joined(
    old: dict[str | None, int], new: dict[str | None, int]
) -> tuple[dict[str | None, int], dict[str | None, int]]:
    """The places of old and of new messages, which join the others once they are many."""
    return (old, new) if len(new) < _NEW_IDS else ({**old, **new}, {})
