"""An agent with tools whose model is arithmetic: every reply is known beforehand.

A question has the form ``4 + 5, 6 * 7``. The model asks the tools for each part, all in one step,
and then says the results with the number of the question on its thread. So a lost, a doubled and a
foreign message all show in the reply.
"""

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

_PART = re.compile(r"(\d+) ([+*]) (\d+)")
_TOOLS = {"+": "add", "*": "multiply"}


@tool
async def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@tool
async def multiply(a: int, b: int) -> int:
    """The product of two numbers."""
    return a * b


def next_message(messages: Sequence[BaseMessage]) -> AIMessage:
    """What the model says to a conversation."""
    questions = [one for one in messages if one.type == "human"]
    last = messages[-1]
    parts = _PART.findall(questions[-1].text)
    if last.type == "human":
        calls = [
            ToolCall(
                name=_TOOLS[sign], args={"a": int(a), "b": int(b)}, id=f"{len(messages)}-{number}"
            )
            for number, (a, sign, b) in enumerate(parts)
        ]
        return AIMessage("", tool_calls=calls, usage_metadata=_usage())
    results = [one.text for one in messages if one.type == "tool"][-len(parts) :]
    said = ", ".join(
        f"{a} {sign} {b} = {result}" for (a, sign, b), result in zip(parts, results, strict=True)
    )
    return AIMessage(f"{said} (question {len(questions)})", usage_metadata=_usage())


class Arithmetic(BaseChatModel):
    """Answers at once, on the event loop, as the client of a real model does."""

    @property
    def _llm_type(self) -> str:
        return "arithmetic"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=next_message(messages))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages)


def _usage() -> UsageMetadata:
    """No token. A model that reports no usage at all is logged as one that cannot be counted."""
    return UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)


_MODEL = Arithmetic()


async def model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await _MODEL.ainvoke(state["messages"])]}


agent = StateGraph(MessagesState)
agent.add_node("model", model)
agent.add_node("tools", ToolNode([add, multiply]))
agent.add_edge(START, "model")
agent.add_conditional_edges("model", tools_condition)
agent.add_edge("tools", "model")
