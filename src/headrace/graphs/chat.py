"""The built-in graph ``chat``: a conversation per thread, and memories per user across threads.

It extends the tutorial's graph: the state is that of ``MessagesState``, the node is ``call_model``,
and memories of a user are in the store under ``("memories", user_id)``.
"""

import re
from collections.abc import Sequence
from typing import Any, TypedDict
from uuid import NAMESPACE_OID, uuid5

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore

from headrace.checkpoints.upstream import read_channel
from headrace.errors import StartupRefusal
from headrace.graphs.echo import MEMORY_MARK, EchoModel
from headrace.graphs.messages import ChatState
from headrace.graphs.user_label import MEMORIES, user_label

_WISH = re.compile(r"^\s*(?:please\s+)?remember(?:\s+that)?[\s:,]+(?P<what>.+?)\s*$", re.I | re.S)

#: The model gets this many memories: the latest ones.
_MEMORIES_SHOWN = 50

#: The model gets so many of the latest messages, and the system messages before them. See `_shown`.
MESSAGES_SHOWN = 100

_NOBODY = "No memory can be kept: the caller has sent no user_id."


class _NoInput(TypedDict):
    """The node reads the messages itself: see :func:`read_channel`."""


def build_chat(model: str, messages_shown: int = MESSAGES_SHOWN) -> StateGraph[Any, Any, Any, Any]:
    """The graph, not yet compiled.

    :param model: an ``init_chat_model`` string; empty: the echo model, which needs no key.
    :param messages_shown: how many of the latest messages the model gets.
    :raises StartupRefusal: HR110 the model cannot be loaded.
    """
    return _build(chat_model(model) if model else EchoModel(), messages_shown)


def _build(
    model: BaseChatModel, messages_shown: int = MESSAGES_SHOWN
) -> StateGraph[Any, Any, Any, Any]:
    async def call_model(
        _: _NoInput, config: RunnableConfig, *, store: BaseStore
    ) -> dict[str, Any]:
        messages = _shown(read_channel(config, "messages"), messages_shown)
        user_id = config.get("configurable", {}).get("user_id")
        memories: list[str] | None = None
        if user_id:
            # After a crash the node may run again: with this key it overwrites its earlier memory.
            namespace = (MEMORIES, user_label(user_id))
            if wish := _wish(messages):
                await store.aput(namespace, str(uuid5(NAMESPACE_OID, wish)), {"data": wish})
            found = await store.asearch(namespace, limit=_MEMORIES_SHOWN)
            found.sort(key=lambda item: item.created_at)
            memories = [str(item.value.get("data", "")) for item in found]
        system = SystemMessage(_instructions(memories))
        return {"messages": [await model.ainvoke([system, *messages], config)]}

    builder = StateGraph(ChatState)
    # Any: mypy finds no overload for a node without input.
    node: Any = call_model
    builder.add_node("call_model", node, input_schema=_NoInput)
    builder.add_edge(START, "call_model")
    return builder


def _shown(messages: Sequence[BaseMessage], count: int) -> Sequence[BaseMessage]:
    """What the model gets of a conversation: the system messages at its beginning, which hold for
    all of it, and the latest ``count`` of the other messages.
    """
    begin = next((at for at, one in enumerate(messages) if one.type != "system"), len(messages))
    return [*messages[:begin], *_latest(messages, begin, count)]


def _latest(messages: Sequence[BaseMessage], begin: int, count: int) -> Sequence[BaseMessage]:
    """The latest messages from place ``begin`` on, at most ``count``. The first is the user's.

    If none of them is the user's, these may be a few more: a model refuses the result of a tool
    without the message that called the tool.
    """
    first = max(begin, len(messages) - count)
    for place in range(first, len(messages)):
        if first == begin or messages[place].type == "human":
            return messages[place:]
    while first > begin and messages[first].type == "tool":
        first -= 1
    return messages[first:]


def _wish(messages: Sequence[BaseMessage]) -> str | None:
    last = messages[-1]
    found = _WISH.match(last.text) if last.type == "human" else None
    return " ".join(found.group("what").split()).rstrip(".") if found else None


def _instructions(memories: Sequence[str] | None) -> str:
    if memories is None:
        return f"You are a helpful assistant. {_NOBODY}"
    lines = [f"{MEMORY_MARK}{memory}" for memory in memories]
    if not lines:
        return "You are a helpful assistant. The user has not asked you to remember anything yet."
    return "\n".join(["You are a helpful assistant. The user asked you to remember:", *lines])


def chat_model(name: str) -> BaseChatModel:
    """The model of an ``init_chat_model`` string, for example ``openai:gpt-5``.

    :raises StartupRefusal: HR110 a package or a key is missing, or the model is unknown.
    """
    try:
        # Not at the top: langchain comes with the extra ``models``.
        from langchain.chat_models import init_chat_model  # noqa: PLC0415
    except ImportError:
        raise _refusal(
            name,
            "the package langchain is not installed",
            "Run pip install 'headrace[models]', or unset HEADRACE_MODEL for the model that needs"
            " no key.",
        ) from None
    try:
        return init_chat_model(name)
    except ImportError as error:
        raise _refusal(name, _first_line(error), "Install the provider's package.") from error
    except Exception as error:
        # Each provider has its own error for a missing key.
        raise _refusal(
            name,
            _first_line(error),
            "Set the provider's key, for example OPENAI_API_KEY, or unset HEADRACE_MODEL for the"
            " model that needs none.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _refusal(name: str, what: str, remedy: str) -> StartupRefusal:
    return StartupRefusal("HR110", where=f"HEADRACE_MODEL={name}", what=what, remedy=remedy)
