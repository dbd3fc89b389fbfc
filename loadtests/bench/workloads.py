"""What the contenders are measured with: graphs, what is said to them, and what must come of it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from langchain import chat_models
from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

Builder = StateGraph[Any, Any, Any, Any]

_TUTORIAL = Path(__file__).parents[2] / "examples" / "from_the_tutorial" / "before.py"

_LONG = 200
_SENTENCE = "What people write to an assistant is about this long, give or take a few words more."


@dataclass(frozen=True)
class Workload:
    """A graph and how it is used; every run says one thing to one thread."""

    name: str
    build: Callable[[], Builder]
    #: Runs of one measurement, all of them together, and when each is alone.
    runs: int
    lone_runs: int
    #: Messages that a thread has before its first run; 0: every run begins a thread of its own.
    messages_before: int = 0

    @property
    def keeps_threads(self) -> bool:
        """Whether a thread gets more than one run."""
        return self.messages_before > 0

    def seed(self) -> dict[str, Any]:
        """What a thread is given before its first run; the graph adds the last message."""
        said = [
            HumanMessage(f"{number}: {_SENTENCE}") if number % 2 else AIMessage(_SENTENCE)
            for number in range(self.messages_before - 1)
        ]
        return {"messages": said}

    def input(self) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "hi"}]}


class PromptModel(BaseChatModel):
    """Answers at once, on the event loop, as a client of a real model does."""

    #: The reply to so many messages.
    reply: Callable[[int], str]

    @property
    def _llm_type(self) -> str:
        return "bench"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = AIMessage(self.reply(len(messages)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages)


def one_node() -> Builder:
    """``MessagesState`` and a node that says hello."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("hello")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder


def ten_steps() -> Builder:
    """Ten nodes one after the other, a message of each."""
    builder = StateGraph(MessagesState)
    before = START
    for number in range(10):

        async def step(state: MessagesState, number: int = number) -> dict[str, Any]:
            return {"messages": [AIMessage(f"step {number}")]}

        builder.add_node(f"step{number}", step)
        builder.add_edge(before, f"step{number}")
        before = f"step{number}"
    return builder


def tutorial(reply: Callable[[int], str] = lambda _: "hello") -> Builder:
    """The graph of ``examples/from_the_tutorial/before.py``, of that file, with another model."""
    found = importlib.util.spec_from_file_location("from_the_tutorial", _TUTORIAL)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Its own model wants a key and a network.
    with patch.object(chat_models, "init_chat_model", return_value=PromptModel(reply=reply)):
        found.loader.exec_module(module)
    builder: Builder = module.builder
    return builder


WORKLOADS = {
    one.name: one
    for one in (
        Workload("trivial", one_node, runs=640, lone_runs=120),
        Workload("ten_step", ten_steps, runs=128, lone_runs=30),
        Workload("long_thread", one_node, runs=128, lone_runs=40, messages_before=_LONG),
        Workload("tutorial", tutorial, runs=320, lone_runs=80),
    )
}
