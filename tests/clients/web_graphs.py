"""Graphs that a person watches: one that takes its time to speak, one that asks."""

from typing import Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.graph import MessagesState
from langgraph.types import interrupt

from tests.clients.graphs import chain

#: Between two letters; long enough for a person to see them come, and for a test to meet them.
LETTER_SECONDS = 0.03


async def speak(state: MessagesState) -> dict[str, Any]:
    """Answers ``word`` with ``You said word`` and a count, letter by letter."""
    last = state["messages"][-1]
    said = f"You said {last.text}, in message {len(state['messages'])}."
    model = FakeListChatModel(responses=[said], sleep=LETTER_SECONDS)
    return {"messages": [await model.ainvoke(state["messages"])]}


async def ask(state: MessagesState) -> dict[str, Any]:
    answer = interrupt({"question": "go on?"})
    return {"messages": [("ai", f"The answer was {answer}")]}


talker = chain(MessagesState, speak=speak)
asker = chain(MessagesState, ask=ask)
