"""Values of graphs as JSON."""

import json
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Interrupt

from headrace.events.json_encoding import encode_json, storable


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
