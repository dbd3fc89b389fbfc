"""What the events of a run tell, where a stream of a real server seldom gets: moves and gaps."""

from typing import Any

import pytest

from headrace.checkpoints.tally import Tokens
from headrace.doors.replies import CallOfTool
from headrace.doors.told_messages import Ended, Piece, ToldMessages
from headrace.events.event import Event, end_event, gap_event


def chunk(message_id: str, content: Any, **more: Any) -> Event:
    message = {"type": "AIMessageChunk", "id": message_id, "content": content, **more}
    return Event.of(1, "messages", [message, {}], resumable=False)


def whole(message_id: str, content: str, kind: str = "ai", **more: Any) -> Event:
    message = {"type": kind, "id": message_id, "content": content, **more}
    return Event.of(1, "messages", [message, {}], resumable=False)


def began(attempt: int) -> Event:
    return Event.of(1, "metadata", {"run_id": "r", "attempt": attempt}, resumable=False)


END = end_event("r", "success", None)


def test_pieces_say_where_a_message_begins():
    told = ToldMessages()
    events = [
        began(1),
        chunk("a", ""),
        chunk("a", "Hel"),
        chunk("a", [{"type": "text", "text": "lo"}, {"type": "reasoning", "text": "hm"}]),
        whole("b", "Bye"),
        END,
    ]
    assert list(told.take(events)) == [
        Piece("a", "Hel", begins=True),
        Piece("a", "lo", begins=False),
        Piece("b", "Bye", begins=True),
        Ended(None),
    ]
    assert list(told.take([chunk("c", "after the end")])) == []


def test_only_the_last_message_leaves_calls():
    call = {"name": "look", "args": {"at": 1}, "id": "c1"}
    told = ToldMessages()
    list(told.take([whole("a", "", tool_calls=[call])]))
    assert told.calls() == [CallOfTool("c1", "look", '{"at":1}')]
    list(told.take([whole("t", "seen", kind="tool"), END]))
    assert told.calls() == []
    assert told.closing() == "seen"


def test_tokens_are_those_of_all_messages():
    told = ToldMessages()
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    list(told.take([chunk("a", "x", usage_metadata=usage), whole("b", "y", usage_metadata=usage)]))
    assert told.tokens == Tokens(6, 4)


def test_a_step_that_is_done_again_after_its_text_was_told_is_an_error():
    told = ToldMessages()
    *_, ended = told.take([began(1), chunk("a", "Hel"), began(2), chunk("b", "Hello")])
    assert isinstance(ended, Ended)
    assert ended.error is not None
    assert ended.error["error"] == "RunRepeated"


@pytest.mark.parametrize("before", [[], [chunk("a", "whole", chunk_position="last")]])
def test_a_run_that_moves_between_messages_is_told_to_its_end(before):
    told = ToldMessages()
    events = [began(1), *before, began(2), chunk("b", "next", chunk_position="last"), END]
    assert list(told.take(events))[-2:] == [Piece("b", "next", begins=True), Ended(None)]


def test_missing_events_are_an_error():
    (ended,) = ToldMessages().take([gap_event("r"), chunk("a", "rest"), END])
    assert isinstance(ended, Ended)
    assert ended.error is not None
    assert ended.error["error"] == "EventsMissed"


def test_a_run_that_was_stopped_is_an_error():
    *_, ended = ToldMessages().take([began(1), end_event("r", "interrupted", None)])
    assert ended == Ended({"error": "UserInterrupt", "message": "The run was cancelled."})
