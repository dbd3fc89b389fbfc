"""The messages that a run tells while it runs, piece by piece, from its events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.chat.schemas import ChatInterrupt
from headrace.checkpoints.tally import Tokens
from headrace.doors.replies import CallOfTool, question_text
from headrace.events.event import Event
from headrace.json_text import json_text
from headrace.usage.calls import counted_tokens

#: The stream modes that a run needs for this.
TOLD_MODES = ("messages-tuple", "updates")

_ONLY_INTERRUPTS = b'{"__interrupt__":'
_WHOLE = ("ai", "AIMessage")
_CHUNK = "AIMessageChunk"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the text of one message.

    :ivar begins: it is the first piece of the message's text.
    """

    message_id: str
    text: str
    begins: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended. ``error`` is None after a success."""

    error: Mapping[str, Any] | None


Told = Piece | Ended

#: Errors of a stream that cannot bring the whole reply.
_REPEATED = {
    "error": "RunRepeated",
    "message": "Another process has begun the run's step again, after a part of the reply was sent;"
    " send the request again.",
}
_MISSED = {
    "error": "EventsMissed",
    "message": "A part of the reply could not be sent; read the thread, or send the request again.",
}


@dataclass(slots=True)
class _CallSoFar:
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ToldMessages:
    """Reads the events of one run, in their order.

    Only the last message may leave calls for the client: what its graph calls itself is no call for
    the client.
    """

    tokens: Tokens = field(default_factory=Tokens)
    questions: list[ChatInterrupt] = field(default_factory=list)
    spoke: bool = False
    _speaker: str = ""
    #: Whether a piece of the speaker's text was told.
    _begun: bool = False
    _last_of_tool: str = ""
    _open: bool = False
    _attempt: int = 0
    _calls: dict[Any, _CallSoFar] = field(default_factory=dict)
    _ended: bool = False

    def take(self, events: Sequence[Event]) -> Iterator[Told]:
        """What the events tell. After :class:`Ended` nothing more comes."""
        for event in events:
            if self._ended:
                return
            for told in self._take(event):
                self._ended = isinstance(told, Ended)
                yield told

    def calls(self) -> list[CallOfTool]:
        """The tools that the client must call."""
        return [
            CallOfTool(call.call_id, call.name, "".join(call.arguments) or "{}")
            for call in self._calls.values()
        ]

    def closing(self) -> str:
        """What is left to say at the end: the text of a tool that the graph ends with, or the
        question that it waits with if it has said nothing else; else empty.
        """
        if self._last_of_tool:
            return self._last_of_tool
        return question_text(self.questions) if self.questions and not self.spoke else ""

    def _take(self, event: Event) -> Iterator[Told]:
        if event.name == "messages":
            yield from self._message(orjson.loads(event.data)[0])
        elif event.name == "updates":
            if event.data.startswith(_ONLY_INTERRUPTS):
                self._ask(orjson.loads(event.data)["__interrupt__"])
        elif event.name == "metadata":
            yield from self._begin(orjson.loads(event.data))
        elif event.name == "error":
            yield Ended(orjson.loads(event.data))
        elif event.name == "end":
            end = orjson.loads(event.data)
            stopped = {"error": "UserInterrupt", "message": "The run was cancelled."}
            yield Ended(None if end.get("status") == "success" else stopped)

    def _begin(self, told: Mapping[str, Any]) -> Iterator[Told]:
        if told.get("missed"):
            yield Ended(_MISSED)
        attempt = told.get("attempt") or 1
        if attempt > self._attempt and self._open:
            # The message is begun again, with another id.
            self._calls.clear()
            if self._begun:
                yield Ended(_REPEATED)
        self._attempt = max(self._attempt, attempt)

    def _message(self, message: Mapping[str, Any]) -> Iterator[Told]:
        kind, message_id = message.get("type"), str(message.get("id") or "")
        if kind == "tool":
            self._calls.clear()
            self._last_of_tool = _text(message.get("content"))
        if kind != _CHUNK and kind not in _WHOLE:
            return
        self._last_of_tool = ""
        if message_id != self._speaker:
            self._speaker = message_id
            self._begun = False
            self._calls.clear()
        if usage := message.get("usage_metadata"):
            self.tokens += counted_tokens(usage)
        self._note_calls(message, whole=kind != _CHUNK)
        self._open = kind == _CHUNK and message.get("chunk_position") != "last"
        if text := _text(message.get("content")):
            begins, self._begun, self.spoke = not self._begun, True, True
            yield Piece(message_id, text, begins=begins)

    def _note_calls(self, message: Mapping[str, Any], *, whole: bool) -> None:
        if whole:
            for place, call in enumerate(message.get("tool_calls") or ()):
                arguments = json_text(call.get("args") or {}).decode()
                self._calls[place] = _CallSoFar(
                    call.get("id") or "", call.get("name") or "", [arguments]
                )
            return
        for place, chunk in enumerate(message.get("tool_call_chunks") or ()):
            index = chunk.get("index")
            call = self._calls.setdefault(place if index is None else index, _CallSoFar())
            call.call_id = call.call_id or chunk.get("id") or ""
            call.name += chunk.get("name") or ""
            call.arguments.append(chunk.get("args") or "")

    def _ask(self, raised: Sequence[Mapping[str, Any]]) -> None:
        known = {one.id for one in self.questions}
        self.questions += [
            ChatInterrupt(id=one.get("id"), value=one.get("value"))
            for one in raised
            if one.get("id") not in known
        ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(_part(one) for one in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    return text if isinstance(text, str) else ""
