"""Graphs behind the doors. Their model is fake: it speaks word by word, and counts its tokens."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt


class Speaker(BaseChatModel):
    """Says ``said`` word by word; a message of the tool is answered with what the tool has said."""

    said: str = ""
    call: bool = False

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[AIMessageChunk]:
        last = messages[-1]
        if self.call and not isinstance(last, ToolMessage):
            for part in ('{"city": ', '"Oslo"}'):
                first = part.startswith("{")
                yield AIMessageChunk(
                    content="",
                    tool_call_chunks=[
                        {
                            "name": "weather" if first else None,
                            "args": part,
                            "id": "call-1" if first else None,
                            "index": 0,
                            "type": "tool_call_chunk",
                        }
                    ],
                )
        else:
            text = self.said or f"You said {last.text}"
            if isinstance(last, ToolMessage):
                text = f"It is {last.text}"
            for place, word in enumerate(text.split(" ")):
                yield AIMessageChunk(content=word if place == 0 else f" {word}")
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        yield AIMessageChunk(content="", usage_metadata=usage, chunk_position="last")

    def _stream(self, messages: list[BaseMessage], *args: Any, **more: Any) -> Any:
        for chunk in self._chunks(messages):
            yield ChatGenerationChunk(message=chunk)

    def _generate(self, messages: list[BaseMessage], *args: Any, **more: Any) -> ChatResult:
        whole = None
        for chunk in self._chunks(messages):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        message = AIMessage(
            whole.content, tool_calls=whole.tool_calls, usage_metadata=whole.usage_metadata
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@dataclass
class Tone:
    temperature: float = 1.0
    user_id: str = "nobody"


class Topic(TypedDict, total=False):
    topic: str
    answer: str


async def speak(state: MessagesState):
    return {"messages": [await Speaker().ainvoke(state["messages"])]}


async def look(state: MessagesState):
    return {"messages": [await Speaker(said="Let me look.").ainvoke(state["messages"])]}


async def call(state: MessagesState):
    return {"messages": [await Speaker(call=True).ainvoke(state["messages"])]}


async def tool(state: MessagesState):
    return {"messages": [ToolMessage("cold", tool_call_id="call-1")]}


async def tone(state: MessagesState, runtime: Runtime[Tone]):
    context = runtime.context
    return {"messages": [AIMessage(f"{context.temperature} {context.user_id}")]}


async def count(state: MessagesState):
    said = " ".join(f"{one.type}:{one.text}" for one in state["messages"])
    return {"messages": [AIMessage(said)]}


async def ask(state: MessagesState):
    return {"messages": [AIMessage(f"Sent, for you said {interrupt('Send it?')}")]}


async def fail(state: MessagesState):
    raise ValueError("kaboom in node")


async def wait(state: MessagesState):
    await asyncio.sleep(3600)


async def answer(state: Topic):
    return {"answer": f"All about {state['topic']}"}


def line(schema: Any, *nodes: Any, context: Any = None) -> Any:
    builder = StateGraph(schema, context_schema=context)
    names = [one.__name__ for one in nodes]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
    for before, after in zip((START, *names), (*names, END), strict=True):
        builder.add_edge(before, after)
    return builder


speaks = line(MessagesState, speak)
calls = line(MessagesState, call)
looks = StateGraph(MessagesState)
for name, node in (("look", look), ("call", call), ("tool", tool), ("speak", speak)):
    looks.add_node(name, node)
for before, after in ((START, "look"), ("look", "call"), ("call", "tool"), ("tool", "speak")):
    looks.add_edge(before, after)
tones = line(MessagesState, tone, context=Tone)
counts = line(MessagesState, count)
asks = line(MessagesState, ask)
fails = line(MessagesState, fail)
waits = line(MessagesState, wait)
topics = line(Topic, answer)
