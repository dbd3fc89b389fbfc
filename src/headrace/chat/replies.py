"""The messages, reply and questions in the values of a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)

from headrace.chat.schemas import ChatInterrupt


def messages_of(values: Any) -> list[BaseMessage] | None:
    """The messages in the state; None if the state has no list of messages.

    A graph without ``add_messages`` may store messages as dictionaries or pairs.
    """
    entries = entries_of(values)
    if entries is None:
        return None
    return [message for one in entries if (message := message_of(one)) is not None]


def entries_of(values: Any) -> Sequence[Any] | None:
    """The list of messages in the state as it is; None if the state has none."""
    messages = values.get("messages") if isinstance(values, Mapping) else None
    if isinstance(messages, Sequence) and not isinstance(messages, str | bytes):
        return messages
    return None


def message_of(one: Any) -> BaseMessage | None:
    """The message that an entry of the list is, in whatever form; None if it is no message."""
    try:
        return convert_to_messages([one])[0]
    except (ValueError, NotImplementedError, TypeError, KeyError):
        return None


def interrupts_of(values: Any) -> list[ChatInterrupt]:
    """The questions that the graph waits for, of all nodes."""
    raised = values.get("__interrupt__") if isinstance(values, Mapping) else None
    return [_interrupt(one) for one in cast("Iterable[Any]", raised or ())]


def _interrupt(one: Any) -> ChatInterrupt:
    if isinstance(one, Mapping):
        return ChatInterrupt(id=one.get("id"), value=one.get("value"))
    return ChatInterrupt(id=one.id, value=one.value)


def reply_of(messages: Sequence[BaseMessage]) -> str | None:
    """The text of the last message, if the model or a tool wrote it; else None."""
    last = messages[-1] if messages else None
    if last is None or isinstance(last, HumanMessage):
        return None
    if isinstance(last, AIMessage):
        text = str(last.text)
        # A tool call without text is no reply.
        return None if not text and last.tool_calls else text
    return str(last.text) if isinstance(last, ToolMessage) else None
