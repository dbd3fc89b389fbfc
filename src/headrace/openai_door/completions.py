"""Chat completions as the ``openai`` package reads them, whole and in chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

from headrace.chat.schemas import ChatInterrupt
from headrace.checkpoints.tally import Tokens
from headrace.doors.replies import CallOfTool, Reply
from headrace.doors.told_messages import Ended, Piece, ToldMessages
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json
from headrace.events.reader import CutReason
from headrace.events.sse import data_frame
from headrace.following.followed_run import FollowedRun
from headrace.openai_door.errors import cut_error, run_error

DONE = b"data: [DONE]\r\n\r\n"


def completion(run: FollowedRun, model: str, reply: Reply) -> dict[str, Any]:
    """A whole chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.calls:
        message["tool_calls"] = [_call(one) for one in reply.calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _reason(reply.calls),
    }
    return {
        **_head(run, model, "chat.completion", int(time())),
        "choices": [choice],
        "usage": usage(reply.tokens),
        "headrace": about(run, reply.questions),
    }


@dataclass(slots=True)
class CompletionTelling:
    """The chunks of one chat completion. Texts of several messages have an empty line between."""

    run: FollowedRun
    model: str
    include_usage: bool
    created: int = field(default_factory=lambda: int(time()))
    _told: ToldMessages = field(default_factory=ToldMessages)
    _begun: bool = False
    _begun_text: bool = False

    def frames(self, events: Sequence[Event]) -> list[bytes]:
        frames: list[bytes] = []
        for told in self._told.take(events):
            if isinstance(told, Ended):
                frames += self._end(told)
            else:
                frames.append(self._delta({"content": self._text(told)}))
        return frames

    def cut(self, reason: CutReason) -> bytes:
        return _frame(cut_error(reason))

    def _text(self, piece: Piece) -> str:
        if piece.begins and self._begun_text:
            return f"\n\n{piece.text}"
        self._begun_text = True
        return piece.text

    def _end(self, end: Ended) -> list[bytes]:
        if end.error is not None:
            return [_frame(run_error(end.error))]
        told, frames = self._told, []
        if closing := told.closing():
            piece = Piece("", closing, begins=True)
            frames.append(self._delta({"content": self._text(piece)}))
        calls = told.calls()
        if calls:
            listed = [{"index": place, **_call(one)} for place, one in enumerate(calls)]
            frames.append(self._delta({"tool_calls": listed}))
        frames.append(self._delta({}, _reason(calls), headrace=about(self.run, told.questions)))
        if self.include_usage:
            frames.append(self._chunk([], usage=usage(told.tokens)))
        return [*frames, DONE]

    def _delta(self, delta: Mapping[str, Any], reason: str | None = None, **more: Any) -> bytes:
        if not self._begun:
            self._begun, delta = True, {"role": "assistant", "content": "", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._chunk([choice], **more)

    def _chunk(self, choices: Sequence[Any], **more: Any) -> bytes:
        head = _head(self.run, self.model, "chat.completion.chunk", self.created)
        # Clients that ask for the usage find the field in each chunk, as at OpenAI.
        asked = {"usage": None} if self.include_usage else {}
        return _frame({**head, "choices": choices, **asked, **more})


def about(run: FollowedRun, questions: Sequence[ChatInterrupt]) -> dict[str, Any]:
    """What clients of headrace find beside OpenAI's fields."""
    return {
        "run_id": str(run.run_id),
        "thread_id": None if run.temporary else run.thread_id,
        "interrupts": [one.model_dump() for one in questions],
    }


def usage(tokens: Tokens) -> dict[str, Any]:
    """The tokens of a run in the words of chat completions."""
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


def _head(run: FollowedRun, model: str, kind: str, created: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{run.run_id.hex}",
        "object": kind,
        "created": created,
        "model": model,
    }


def _reason(calls: Sequence[CallOfTool]) -> str:
    return "tool_calls" if calls else "stop"


def _call(one: CallOfTool) -> dict[str, Any]:
    function = {"name": one.name, "arguments": one.arguments}
    return {"id": one.call_id, "type": "function", "function": function}


def _frame(value: Any) -> bytes:
    return data_frame(encode_json(value))
