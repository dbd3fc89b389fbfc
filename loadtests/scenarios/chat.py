"""People who chat: several turns on a thread, each reply checked, pauses between them.

The built-in ``chat`` graph answers from what it is given and nothing else, so every reply is known
beforehand. A reply that shows lost, doubled or strange context is a failure, like a status 500.
"""

import itertools
import os
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from locust import task
from locust.contrib.fasthttp import FastHttpUser

from loadtests.common.api import CONVERSATION, TEST, WrongReply
from loadtests.common.events import Event, StreamFailed, spoken
from loadtests.common.profile import profile_from
from loadtests.common.server import api_key_header
from loadtests.common.sse import follow

#: How a conversation is held: over the small door, or as LangGraph's own clients do it.
DOORS = ("/chat", "/chat/stream", "/runs/stream")

_numbers = itertools.count()


class Turn(NamedTuple):
    message: str
    reply: str


def script(name: str, memory: str) -> list[Turn]:
    """What is said on a new thread, and what the built-in graph must answer.

    The counts prove that no turn was lost or doubled, the last question that memory is the user's.
    """
    hello, bye = f"Hi, my name is {name}.", "Thank you, that was all."
    return [
        Turn("What did I just say?", "Nothing before this."),
        Turn(hello, f"You said: {hello} (message 2 of this conversation)"),
        Turn("What did I just say?", f"You said: {hello}"),
        Turn(f"Please remember that {memory}.", "I will remember that."),
        Turn("What is my name?", f"Your name is {name}."),
        Turn("What do you remember?", f"You asked me to remember: {memory}."),
        Turn(bye, f"You said: {bye} (message 7 of this conversation)"),
    ]


@dataclass
class Conversation:
    """One thread, and what is still to be said on it."""

    door: str
    turns: list[Turn]
    thread_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.perf_counter)
    said: int = 0

    @property
    def completed(self) -> bool:
        return self.said == len(self.turns)


class ChatUser(FastHttpUser):
    """Holds one conversation after the other, a turn per task, so that the end cuts none in two."""

    max_retries = 0
    default_headers = api_key_header(os.environ)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._number = next(_numbers)
        self._user_id = f"load-{TEST}-{self._number}"
        # Not the same door for all at the same time.
        self._doors = itertools.cycle(DOORS[self._number % 3 :] + DOORS[: self._number % 3])
        self._profile = profile_from(os.environ)
        # With a key the server may take all of us for one person, whose memory must be one.
        own = f"my lucky number is {self._number}"
        self._memory = "I like green tea" if self.default_headers else own
        self._conversation: Conversation | None = None

    def wait_time(self) -> float:
        return self._profile.pause(random.random())

    @task
    def turn(self) -> None:
        if random.random() < 0.5:
            # On a new connection another process may take the turn, and must know the thread.
            self.client.client.close()
        conversation = self._conversation or self._begin()
        if conversation is None or not self._say(conversation):
            self._conversation = None  # What a broken conversation should answer is unknown.
            return
        conversation.said += 1
        if conversation.completed:
            self._write_down(conversation)
            self._conversation = None

    def _begin(self) -> Conversation | None:
        turns = script(f"Ada{self._number}", self._memory)
        conversation = Conversation(next(self._doors), turns)
        if conversation.door == "/runs/stream" and not self._create_thread(conversation.thread_id):
            return None
        self._conversation = conversation
        return conversation

    def _say(self, conversation: Conversation) -> bool:
        turn = conversation.turns[conversation.said]
        count = 2 * (conversation.said + 1)
        match conversation.door:
            case "/chat":
                return self._chat(conversation.thread_id, turn, count)
            case "/chat/stream":
                return self._chat_stream(conversation.thread_id, turn)
            case _:
                return self._runs_stream(conversation.thread_id, turn, count)

    def _create_thread(self, thread_id: str) -> bool:
        body = {"thread_id": thread_id, "if_exists": "raise", "metadata": {"load": TEST}}
        with self.client.post(
            "/threads", json=body, catch_response=True, allow_redirects=False
        ) as response:
            if response.status_code != 200:
                response.failure(_status(response))
            return bool(response.status_code == 200)

    def _chat(self, thread_id: str, turn: Turn, count: int) -> bool:
        body = {"message": turn.message, "thread_id": thread_id, "user_id": self._user_id}
        with self.client.post(
            "/chat", json=body, catch_response=True, allow_redirects=False
        ) as response:
            if response.status_code != 200:
                response.failure(_status(response))
                return False
            try:
                answer = response.json()
                _expect_reply(turn, answer["reply"])
                _expect_count(answer["messages"], count)
            except (WrongReply, KeyError, TypeError, ValueError) as error:
                response.failure(error if isinstance(error, WrongReply) else _unreadable(error))
                return False
        return True

    def _chat_stream(self, thread_id: str, turn: Turn) -> bool:
        body = {"message": turn.message, "thread_id": thread_id, "user_id": self._user_id}

        def check(events: Sequence[Event]) -> None:
            try:
                _expect_reply(turn, spoken(events))
            except (KeyError, IndexError, TypeError) as error:
                raise _unreadable(error) from error

        return follow(self, "/chat/stream", body, name="/chat/stream", check=check) is not None

    def _runs_stream(self, thread_id: str, turn: Turn, count: int) -> bool:
        body = {
            "assistant_id": "chat",
            "input": {"messages": [{"role": "user", "content": turn.message}]},
            "config": {"configurable": {"user_id": self._user_id}},
            "stream_mode": ["messages-tuple", "values"],
        }

        def check(events: Sequence[Event]) -> None:
            try:
                _expect_reply(turn, spoken(events))
                messages = [event for event in events if event.name == "values"][-1].data[
                    "messages"
                ]
                _expect_reply(turn, messages[-1]["content"])
                _expect_count(messages, count)
            except (KeyError, IndexError, TypeError) as error:
                raise _unreadable(error) from error

        path = f"/threads/{thread_id}/runs/stream"
        return follow(self, path, body, name="/runs/stream", check=check) is not None

    def _write_down(self, conversation: Conversation) -> None:
        self.environment.events.request.fire(
            request_type=CONVERSATION,
            name=conversation.door,
            response_time=(time.perf_counter() - conversation.started) * 1000,
            response_length=0,
            response=None,
            context=self.context(),
            exception=None,
        )


def _status(response: Any) -> Exception:
    """Nobody answered, or with this status."""
    error = getattr(response, "error", None)
    if response.status_code == 0 and error is not None:
        return StreamFailed(repr(error))
    return StreamFailed(f"HTTP {response.status_code}: {(response.text or '')[:200]}")


def _unreadable(error: Exception) -> WrongReply:
    return WrongReply(f"the answer has another form: {error!r}")


def _expect_reply(turn: Turn, reply: object) -> None:
    if reply != turn.reply:
        raise WrongReply(f"wrong reply to '{turn.message}': '{reply}', not '{turn.reply}'")


def _expect_count(messages: Sequence[Any], count: int) -> None:
    if len(messages) != count:
        raise WrongReply(f"the thread has {len(messages)} messages, not {count}")
