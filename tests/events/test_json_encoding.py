"""Values of graphs as JSON."""

import json
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.types import Interrupt

from headrace.events.json_encoding import Repeated, encode_json, message_form, storable


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Note:
    text: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), {"x": 1, "y": 2}),
        (Note("a"), {"text": "a"}),
        ({1: "one"}, {"1": "one"}),
        (b"\x00\xff", "AP8="),
        ({3}, [3]),
        (ValueError("no"), "ValueError('no')"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (timedelta(days=1, microseconds=5), 86400.000005),
        (deque([1]), [1]),
        (re.compile("a.b"), "a.b"),
        (1e20, 1e20),
        ({"deep": [{"text": "\ud800!"}]}, {"deep": [{"text": "\N{REPLACEMENT CHARACTER}!"}]}),
    ],
)
def test_everything_a_state_may_hold_becomes_json(value, expected):
    assert orjson.loads(encode_json(value)) == expected


@pytest.mark.parametrize("number", [2**70, -(2**70), 2**64, -(2**63) - 1, 2**1000])
def test_integers_stay_exact_numbers(number):
    assert encode_json({"n": [number]}) == b'{"n":[%d]}' % number
    assert storable({"n": [number]}) == {"n": [number]}


def test_messages_keep_the_fields_clients_read():
    got = orjson.loads(encode_json([HumanMessage("hi", id="1"), AIMessage("yo", id="2")]))
    assert [(m["type"], m["content"], m["id"]) for m in got] == [
        ("human", "hi", "1"),
        ("ai", "yo", "2"),
    ]
    assert got[1]["tool_calls"] == []


def test_an_interrupt_shows_its_value_and_id():
    got = orjson.loads(encode_json(Interrupt(value={"q": 1}, id="abc")))
    assert (got["value"], got["id"]) == ({"q": 1}, "abc")


@pytest.mark.parametrize("form", [storable, lambda value: json.loads(encode_json(value))])
def test_no_value_holds_a_nul(form):
    assert form({"a": "x\0y"}) == {"a": "x\N{REPLACEMENT CHARACTER}y"}
    assert form({"a": r"x\u0000y"}) == {"a": r"x\u0000y"}


class OwnChunk(AIMessageChunk):
    own: str = "x"


_CALL: Any = {"name": "f", "args": "{}", "id": "c", "index": 0, "type": "tool_call_chunk"}
_USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize(
    "message",
    [
        AIMessageChunk(content="token", id="m"),
        AIMessageChunk(content="", id="m", name="n", chunk_position="last"),
        AIMessageChunk(content=[{"type": "text", "text": "a"}]),
        AIMessageChunk(content="", tool_call_chunks=[_CALL]),
        AIMessageChunk(content="", usage_metadata=_USAGE),
        AIMessageChunk(
            content="a", response_metadata={"model_name": "m"}, additional_kwargs={"k": {1}}
        ),
        AIMessageChunk(content="a\0b\ud800"),
        AIMessageChunk(content="a", extra=1),
        OwnChunk(content="a"),
        AIMessage("whole"),
        HumanMessage("a"),
    ],
)
def test_the_quick_form_of_a_message_has_the_json_of_the_message(message):
    assert encode_json([message_form(message)]) == encode_json([message])
    assert (
        orjson.loads(encode_json([message_form(message)]))[0].keys() == message.model_dump().keys()
    )


def test_a_repeated_value_is_encoded_once_and_again_when_it_is_another_one_or_has_grown():
    repeated, first = Repeated(), {"a": 1, "odd": {3}, "nul": "\0"}
    form = repeated.form(first)
    assert repeated.form(first) is form
    assert encode_json([form, 1]) == encode_json([first, 1])
    assert encode_json([form, {1: 2, "1": 3}, 10**40]) == encode_json(
        [first, {1: 2, "1": 3}, 10**40]
    )
    assert encode_json(repeated.form({"a": 2})) == b'{"a":2}'
    first["b"] = 2
    assert encode_json(repeated.form(first)) == encode_json(first)
