"""JSON on its way into jsonb and back: what ``json`` would make of it, and Postgres of that."""

import enum
import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.db.jsonb import dump_jsonb, load_jsonb

_REFUSED = "refused by Postgres"


@pytest.fixture(scope="module")
def database(module_database):
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


def through_postgres(database, text: str | bytes) -> str:
    """What Postgres prints of a JSON text, or that it does not take it."""
    printed = text.decode() if isinstance(text, bytes) else text
    try:
        (found,) = database.execute("SELECT %s::jsonb::text", (printed,)).fetchone()
    except psycopg.DataError:
        return _REFUSED
    return str(found)


def same(ours: Any, theirs: Any) -> bool:
    """Equal, and of the same types: 1, 1.0 and True are three values."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**64, 2**64 - 1, 10**40])
    | st.floats()
    | st.text()
    | st.text('0123456789:,[{}]" -\\', max_size=30)
)
#: Other keys have forms of their own (docs/values.md).
KEYS = st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(VALUES)
@example({1: "a", False: "c", None: "d", 1.5: "e"})
@example([10**30, -(10**30), 2**64, 123456789012345678, 0.1, 1e300, 5e-324])
@example(12345678901234567890123)
@example({"text": ": 123456789012345678901", "n": 1})
def test_it_is_what_json_would_have_made_of_it(database, value):
    """What that refuses, or Postgres after it, has a form here all the same."""
    theirs = through_postgres(database, json.dumps(value))
    ours = through_postgres(database, dump_jsonb(value))
    assert ours != _REFUSED
    assert same(load_jsonb(ours), json.loads(ours))
    assert same(load_jsonb(ours.encode()), json.loads(ours))
    if theirs != _REFUSED:
        assert same(json.loads(ours), json.loads(theirs))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"a": math.nan, "b": [math.inf, -math.inf]}, {"a": None, "b": [None, None]}),
        ({"nul\0": "\0"}, {"nul\N{REPLACEMENT CHARACTER}": "\N{REPLACEMENT CHARACTER}"}),
        ({"half": "\ud800"}, {"half": "\N{REPLACEMENT CHARACTER}"}),
        (r"\u0000 \\u0000", r"\u0000 \\u0000"),
        ("\\\0\0", "\\\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ({1: "a", "1": "b"}, {"1 (int)": "a", "1": "b"}),
        ([{1, 2}, b"bytes", 1j], [[1, 2], "Ynl0ZXM=", "1j"]),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ({(1, 2): 3}, {"(1, 2)": 3}),
    ],
    ids=repr,
)
def test_no_value_is_refused_by_postgres(database, value, stored):
    assert load_jsonb(through_postgres(database, dump_jsonb(value))) == stored


@pytest.mark.parametrize(
    "text", [b"[" * 5000 + b"]" * 5000, b"1" * 5000, b"[" + b"9" * 9000 + b"]"]
)
def test_no_row_fails_the_read_that_it_is_part_of(text):
    assert load_jsonb(text)


@settings(deadline=None, max_examples=50)
@given(st.integers(-(10**25), 10**25), st.sampled_from(["{}", "[{}]", '{{"k": {}}}', "[1, {}]"]))
def test_integers_come_back_exactly_wherever_they_stand(database, number, place):
    printed = through_postgres(database, place.format(number))
    assert same(load_jsonb(printed), json.loads(printed))


@pytest.mark.parametrize("depth", [200, 300, 800])
def test_what_is_nested_comes_back(database, depth):
    value: Any = 1
    for _ in range(depth):
        value = [value]
    printed = through_postgres(database, dump_jsonb(value))
    assert printed == "[" * depth + "1" + "]" * depth
    assert load_jsonb(printed)


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    """Text of the user's own type."""


def test_uuids_and_enums_become_text_and_value_which_json_refuses():
    assert json.loads(dump_jsonb([UUID(int=7), Colour.RED])) == [str(UUID(int=7)), "red"]


@pytest.mark.parametrize("value", [(1, 2), Word("w")], ids=repr)
def test_types_that_json_knows_by_their_base_are_what_they_are_to_json(value):
    assert json.loads(dump_jsonb({"v": value})) == json.loads(json.dumps({"v": value}))
