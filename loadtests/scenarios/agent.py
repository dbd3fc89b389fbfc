"""Conversations with an agent that uses tools: every result and every message count is known."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadtests.common.api import Api, require
from loadtests.common.events import Event

_QUESTIONS = 3
_SIGNS = {"+": lambda a, b: a + b, "*": lambda a, b: a * b}


class Question(NamedTuple):
    text: str
    reply: str
    #: Of the whole thread, once it is answered.
    messages: int


def question(number: int, before: int) -> Question:
    """A new question with two parts.

    :param number: on its thread, from 1.
    :param before: messages of the thread so far.
    """
    parts = [
        (random.randint(1, 999), random.choice(list(_SIGNS)), random.randint(1, 999))
        for _ in range(2)
    ]
    text = ", ".join(f"{a} {sign} {b}" for a, sign, b in parts)
    said = ", ".join(f"{a} {sign} {b} = {_SIGNS[sign](a, b)}" for a, sign, b in parts)
    # The question, the calls of the model, two results, the reply.
    return Question(text, f"{said} (question {number})", before + 5)


def run_body(asked: Question) -> dict[str, Any]:
    return {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": asked.text}]},
    }


def require_answered(messages: Sequence[Any], asked: Question) -> None:
    """:raises WrongReply: the messages are not those of the thread after ``asked``."""
    require(messages[-1]["content"], asked.reply, f"wrong reply to '{asked.text}'")
    require(len(messages), asked.messages, "wrong number of messages")


def wait(api: Api, thread_id: str, asked: Question) -> None:
    api.ask(
        "POST",
        f"/threads/{thread_id}/runs/wait",
        run_body(asked),
        name="/runs/wait agent",
        check=lambda values: require_answered(values["messages"], asked),
    )


def stream(api: Api, thread_id: str, asked: Question) -> None:
    """The steps of the agent one by one, and the values at the end."""

    def check(events: Sequence[Event]) -> None:
        updates = [name for one in events if one.name == "updates" for name in one.data]
        require(updates, ["model", "tools", "model"], "wrong steps")
        values = [one.data for one in events if one.name == "values"]
        require_answered(values[-1]["messages"], asked)

    body = {**run_body(asked), "stream_mode": ["updates", "values"]}
    api.stream(f"/threads/{thread_id}/runs/stream", body, name="/runs/stream agent", check=check)


def read_state(api: Api, thread_id: str, asked: Question) -> None:
    api.ask(
        "GET",
        f"/threads/{thread_id}/state",
        name="/threads/{id}/state",
        check=lambda state: require_answered(state["values"]["messages"], asked),
    )


def agent(api: Api) -> None:
    """A thread with some questions, over both routes; its state; its deletion."""
    thread_id = api.new_thread()
    asked = question(1, 0)
    for number in range(1, _QUESTIONS + 1):
        asked = question(number, 0 if number == 1 else asked.messages)
        (wait if number % 2 else stream)(api, thread_id, asked)
        read_state(api, thread_id, asked)
    api.ask("DELETE", f"/threads/{thread_id}", name="/threads/{id}")
