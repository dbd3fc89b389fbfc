"""Responses as the ``openai`` package reads them, whole and as events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

from headrace.checkpoints.tally import Tokens
from headrace.doors.replies import CallOfTool, Reply, question_text
from headrace.doors.told_messages import Ended, Piece, ToldMessages
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json
from headrace.events.reader import CutReason
from headrace.events.sse import frame
from headrace.following.followed_run import FollowedRun
from headrace.openai_door.completions import about
from headrace.openai_door.errors import cut_message
from headrace.openai_door.schemas import ResponseRequest
from headrace.openai_door.service import RESPONSE_PREFIX


@dataclass(slots=True)
class ResponseForm:
    """One response: its run, and what its request has said."""

    run: FollowedRun
    body: ResponseRequest
    lasting: bool
    created: float = field(default_factory=time)

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The response of a run that has ended."""
        said = reply.texts or ([question_text(reply.questions)] if reply.questions else [])
        items = [text_item(self._item_id("msg", place), text) for place, text in enumerate(said)]
        items += [
            call_item(self._item_id("fc", place), one) for place, one in enumerate(reply.calls)
        ]
        told = self.state("completed", output=items, tokens=reply.tokens)
        return {**told, "headrace": about(self.run, reply.questions)}

    def state(
        self,
        status: str,
        *,
        output: Sequence[Any] = (),
        tokens: Tokens | None = None,
        error: str | None = None,
    ) -> dict[str, Any]:
        """The response as far as it has come."""
        body = self.body
        labels = body.metadata.model_dump(exclude_none=True) if body.metadata else {}
        return {
            "id": f"{RESPONSE_PREFIX}{self.run.run_id.hex}",
            "object": "response",
            "created_at": int(self.created),
            "status": status,
            "error": None if error is None else {"code": "server_error", "message": error},
            "incomplete_details": None,
            "instructions": body.instructions,
            "metadata": labels,
            "model": body.model,
            "output": list(output),
            "parallel_tool_calls": True,
            "previous_response_id": body.previous_response_id,
            "store": self.lasting,
            "tool_choice": "auto",
            "tools": [],
            "user": body.user,
            "usage": None if tokens is None else _usage(tokens),
        }

    def _item_id(self, kind: str, place: int) -> str:
        return f"{kind}_{self.run.run_id.hex}_{place}"


def text_item(item_id: str, text: str, status: str = "completed") -> dict[str, Any]:
    """A message of the model."""
    content = [_text_part(text)] if status == "completed" else []
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def call_item(item_id: str, call: CallOfTool, status: str = "completed") -> dict[str, Any]:
    """A call of a tool, which the client makes."""
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments if status == "completed" else "",
        "status": status,
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }


@dataclass(slots=True)
class ResponseTelling:
    """The events of one response. Each message of the model is an item."""

    form: ResponseForm
    _told: ToldMessages = field(default_factory=ToldMessages)
    _sequence: int = 0
    _items: list[dict[str, Any]] = field(default_factory=list)
    #: The texts of the message that is told now; None between messages.
    _texts: list[str] | None = None

    def frames(self, events: Sequence[Event]) -> list[bytes]:
        frames = [] if self._sequence else self._begin()
        for told in self._told.take(events):
            frames += self._end(told) if isinstance(told, Ended) else self._piece(told)
        return frames

    def cut(self, reason: CutReason) -> bytes:
        message = cut_message(reason)
        return self._event("error", code="reply_cut", message=message, param=None)

    def _begin(self) -> list[bytes]:
        state = self.form.state("in_progress")
        return [
            self._event("response.created", response=state),
            self._event("response.in_progress", response=state),
        ]

    def _piece(self, piece: Piece) -> list[bytes]:
        frames = []
        if piece.begins:
            frames = [*self._end_text(), *self._begin_text()]
        assert self._texts is not None
        self._texts.append(piece.text)
        delta = self._of_part("response.output_text.delta", delta=piece.text, logprobs=[])
        return [*frames, delta]

    def _begin_text(self) -> list[bytes]:
        self._texts = []
        item = text_item(self._item_id("msg"), "", "in_progress")
        return [
            self._event("response.output_item.added", output_index=self._place, item=item),
            self._of_part("response.content_part.added", part=_text_part("")),
        ]

    def _end_text(self) -> list[bytes]:
        if self._texts is None:
            return []
        text, self._texts = "".join(self._texts), None
        item = text_item(self._item_id("msg"), text)
        frames = [
            self._of_part("response.output_text.done", text=text, logprobs=[]),
            self._of_part("response.content_part.done", part=_text_part(text)),
            self._event("response.output_item.done", output_index=self._place, item=item),
        ]
        self._items.append(item)
        return frames

    def _end(self, end: Ended) -> list[bytes]:
        frames = self._end_text()
        if end.error is not None:
            message = f"{end.error.get('error')}: {end.error.get('message')}"
            failed = self.form.state("failed", output=self._items, error=message)
            return [*frames, self._event("response.failed", response=failed)]
        if closing := self._told.closing():
            frames += self._piece(Piece("", closing, begins=True)) + self._end_text()
        for call in self._told.calls():
            frames += self._call(call)
        whole = self.form.state("completed", output=self._items, tokens=self._told.tokens)
        whole["headrace"] = about(self.form.run, self._told.questions)
        return [*frames, self._event("response.completed", response=whole)]

    def _call(self, call: CallOfTool) -> list[bytes]:
        item_id, place = self._item_id("fc"), self._place
        item = call_item(item_id, call)
        where: Mapping[str, Any] = {"item_id": item_id, "output_index": place}
        arguments = call.arguments
        begun = call_item(item_id, call, "in_progress")
        of_arguments = "response.function_call_arguments"
        frames = [
            self._event("response.output_item.added", output_index=place, item=begun),
            self._event(f"{of_arguments}.delta", delta=arguments, **where),
            self._event(f"{of_arguments}.done", arguments=arguments, name=call.name, **where),
            self._event("response.output_item.done", output_index=place, item=item),
        ]
        self._items.append(item)
        return frames

    @property
    def _place(self) -> int:
        return len(self._items)

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self.form.run.run_id.hex}_{self._place}"

    def _of_part(self, kind: str, **more: Any) -> bytes:
        where = {"item_id": self._item_id("msg"), "output_index": self._place, "content_index": 0}
        return self._event(kind, **where, **more)

    def _event(self, kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return frame(kind, encode_json(value))
