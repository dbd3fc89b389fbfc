"""The echo model: a deterministic, streaming chat model that needs no key.

Its replies show that the conversation and the memories are stored. It also says what it is.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

#: Marks a memory in the system message of the chat graph; the echo model reads it.
MEMORY_MARK = "- "

_INTRODUCTION = (
    "I am headrace's built-in model: I need no key, and can only repeat and remember."
    " Set HEADRACE_MODEL, for example to openai:gpt-5, for a real one."
)

_NAME = re.compile(r"\b(?:my name is|i am called|call me)\s+([^\W\d_][\w'-]*)", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\b(?:what(?:'s| is) my name|who am i)\b", re.IGNORECASE)
_ASKS_MEMORY = re.compile(r"\bwhat do you (?:remember|know about me)\b", re.IGNORECASE)
_ASKS_LAST = re.compile(r"\bwhat did i (?:just )?(?:say|ask|tell)", re.IGNORECASE)
_REMEMBER = re.compile(r"^\s*(?:please\s+)?remember\b", re.IGNORECASE)


class EchoModel(BaseChatModel):
    """Replies only from the messages that it gets."""

    @property
    def _llm_type(self) -> str:
        return "headrace-echo"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = AIMessage(reply_to(messages), usage_metadata=_usage())
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for number, word in enumerate(re.findall(r"\s*\S+", reply_to(messages))):
            usage = _usage() if number == 0 else None
            yield ChatGenerationChunk(message=AIMessageChunk(content=word, usage_metadata=usage))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # The default implementation would use a thread for nothing.
        for chunk in self._stream(messages):
            yield chunk


def _usage() -> UsageMetadata:
    """No token. A model that reports no usage at all is logged as one that cannot be counted."""
    return UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)


def reply_to(messages: Sequence[BaseMessage]) -> str:
    """The answer to the last message."""
    said = [message.text for message in messages if message.type == "human"]
    memories = _memories(messages)
    last = said[-1] if said else ""
    if _ASKS_MEMORY.search(last):
        return f"You asked me to remember: {'; '.join(memories)}." if memories else "Nothing yet."
    if _ASKS_NAME.search(last):
        name = _name(said) or _name(memories)
        return f"Your name is {name}." if name else "You have not told me your name."
    if _ASKS_LAST.search(last):
        return f"You said: {said[-2]}" if len(said) > 1 else "Nothing before this."
    if _REMEMBER.search(last) and memories:
        return "I will remember that."
    if len(said) > 1:
        return f"You said: {last} (message {len(said)} of this conversation)"
    return f"You said: {last} ({_INTRODUCTION})"


def _memories(messages: Sequence[BaseMessage]) -> list[str]:
    return [
        line.removeprefix(MEMORY_MARK)
        for message in messages
        if message.type == "system"
        for line in message.text.splitlines()
        if line.startswith(MEMORY_MARK)
    ]


def _name(texts: Sequence[str]) -> str | None:
    """The last name in the texts."""
    for text in reversed(texts):
        if found := _NAME.search(text):
            return found.group(1)
    return None
