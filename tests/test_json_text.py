"""Whatever a graph leaves in its state has a form as JSON, in bounded time."""

import collections
import dataclasses
import datetime as dt
import enum
import json
import math
from decimal import Decimal
from time import perf_counter
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field, SecretStr, computed_field

from headrace.json_text import CYCLE, MAX_DEPTH, MAX_ITEMS, MAX_WORDS, TOO_DEEP, json_text


def form(value: Any) -> Any:
    """What two strict parsers read of its text."""
    text = json_text(value)
    assert b"\n" not in text

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(text, parse_constant=refuse)
    orjson.loads(text)
    return read


def nested(depth: int, wrap: Any, inner: Any = 1) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.Enum):
    RED = "red"
    PLACE = (1, 2)


class Silent:
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class NoText:
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]

    __repr__ = __str__


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Hidden(metaclass=Nameless):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def _raise(self: Any) -> Any:
    raise KeyboardInterrupt


#: It says that it is text; the other one says nothing.
Liar = type("Liar", (), {"__class__": property(lambda self: str)})
Raising = type("Raising", (), {"__class__": property(_raise)})


class Broken(collections.abc.Mapping):
    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise KeyboardInterrupt

    def __len__(self) -> int:
        return -1


class Endless(Broken):
    def __getitem__(self, key: Any) -> Any:
        return 1

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1


class DumpsItself:
    def model_dump(self) -> Any:
        return self


class DumpsAnother:
    def model_dump(self) -> Any:
        return {"deeper": DumpsAnother()}


class Model(BaseModel):
    public: int = 1
    secret: SecretStr = SecretStr("hush")
    excluded: str = Field("hush", exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def computed(self) -> int:
        raise ValueError


class Holder(BaseModel):
    held: Any = None


@dataclasses.dataclass
class Failing:
    good: int
    bad: int

    def __getattribute__(self, name: str) -> Any:
        if name in ("bad", "__dict__"):
            raise SystemExit
        return object.__getattribute__(self, name)


class NoZone(dt.tzinfo):
    def utcoffset(self, when: Any) -> Any:
        raise RuntimeError

    tzname = dst = utcoffset


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Number(int):
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __pos__ = __index__ = __repr__  # type: ignore[assignment]


class Array:
    """As numpy's are, without numpy."""

    __module__ = "numpy"
    dtype = type("dtype", (), {"kind": "O"})

    def tolist(self) -> list[Any]:
        return [1, "a", None]


#: Not parameters themselves: pytest asks them for their names.
CASES: list[tuple[Any, Any]] = [
    ({(1, 2): "x"}, {"(1, 2)": "x"}),
    ({b"k\xff": "x"}, {"a/8=": "x"}),
    ({None: 1, True: 2, 1.5: 3, 7: 4}, {"null": 1, "true": 2, "1.5": 3, "7": 4}),
    ({math.nan: 1}, {"null": 1}),
    ({Colour.RED: 1, Colour.PLACE: 2}, {"red": 1, "(1, 2)": 2}),
    ({UUID(int=1): 1, dt.date(2020, 1, 2): 2}, {str(UUID(int=1)): 1, "2020-01-02": 2}),
    ({1: "int", "1": "str"}, {"1 (int)": "int", "1": "str"}),
    (
        {float("nan"): 1, math.nan: 2, None: 3},
        {"null": 1, "null (float)": 2, "null (NoneType)": 3},
    ),
    ({Silent(): 1}, {"<Silent>": 1}),
    ({"k\ud800": "\ud800\0"}, {"k\N{REPLACEMENT CHARACTER}": "\N{REPLACEMENT CHARACTER}" * 2}),
    ([math.nan, math.inf, -math.inf], [None] * 3),
    ([2**70, 2**1024, 1e20], [2**70, str(2**1024), 1e20]),
    (Decimal("1.50"), "1.50"),
    (
        dt.datetime(2020, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=5))),
        "2020-01-02T00:00:00+05:00",
    ),
    (dt.time(1, 2, tzinfo=dt.UTC), "01:02:00+00:00"),
    (Pair(1, 2**70), {"a": 1, "b": 2**70}),
    (SecretStr("hush"), "**********"),
    ({"k": (SecretStr("hush"), 2**70)}, {"k": ["**********", 2**70]}),
    (Model(), {"public": 1, "secret": "**********"}),
    (Silent(), "<Silent>"),
    (NoText(), "<NoText>"),
    (Hidden(), "<Hidden>"),
    (Failing(1, 2), {"good": 1, "bad": None}),
    (DumpsItself(), CYCLE),
    ({Text("k"): Text("v")}, {"k": "v"}),
    ({Number(5): [Number(6), 2**70]}, {"5": [6, 2**70]}),
    (Array(), [1, "a", None]),
    (collections.UserDict({"a": 1}), {"a": 1}),
]
HOSTILE = [Liar(), Raising(), Broken(), DumpsAnother()]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_values_and_keys_that_json_does_not_have(number):
    value, expected = CASES[number]
    assert form(value) == expected


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_code_of_a_value_reaches_the_caller(number):
    value = HOSTILE[number]
    form(value)
    form({"a": [value, {(1, 2): value}, (value, 2**70)]})


def test_a_time_whose_zone_raises_ends_nothing():
    """orjson ended the process."""
    assert "datetime" in form(dt.datetime(2020, 1, 1, tzinfo=NoZone()))


@pytest.mark.parametrize("depth", [260, MAX_DEPTH - 1, MAX_DEPTH + 1, 10_000])
@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: {"a": one}])
def test_any_depth(depth, wrap):
    text = json_text(nested(depth, wrap))
    assert (TOO_DEEP.encode() in text) == (depth > MAX_DEPTH)


def test_what_holds_itself_is_not_followed():
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    holder = Holder()
    holder.held = [holder]
    shared = [2**70]
    assert form(cycle) == [1, {"again": CYCLE}]
    assert form(holder)
    # Twice is no cycle.
    assert form([shared, shared]) == [[2**70], [2**70]]


def test_messages_with_deep_arguments_have_a_form():
    message = AIMessage(
        "", id="m", tool_calls=[{"name": "t", "args": nested(250, _object), "id": "1"}]
    )
    assert form([message])[0]["tool_calls"][0]["args"] == nested(250, _object)


def _object(inner: Any) -> dict[str, Any]:
    return {"a": inner}


@pytest.mark.parametrize(
    "value",
    [
        Endless(),
        {float("nan"): 1 for _ in range(MAX_ITEMS)},
        [{(number,): number} for number in range(MAX_ITEMS)],
        "x" * 100 + "\0" * MAX_ITEMS,
    ],
    ids=["endless", "one-name", "odd", "nul"],
)
def test_the_work_is_bounded(value):
    started = perf_counter()
    form(value)
    assert perf_counter() - started < 20


def test_one_odd_value_leaves_a_large_state_whole():
    state = {"rows": [{"n": number} for number in range(MAX_ITEMS)], "odd": {(1, 2): 3}}
    assert form(state) == {"rows": state["rows"], "odd": {"(1, 2)": 3}}


def test_words_are_cut():
    class Wordy:
        def __str__(self) -> str:
            return "x" * 10_000_000

    assert len(json_text(Wordy())) == MAX_WORDS + 5


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**63, 2**1100)
    | st.floats()
    | st.text()
    | st.characters(categories=["Cs", "Cc"])
    | st.binary(max_size=4)
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.timezones())
    | st.timedeltas()
    | st.uuids()
    # Not the hostile ones: hypothesis asks for their words.
    | st.sampled_from([Colour.PLACE, Pair(1, 2), SecretStr("hush"), ValueError("no")])
)
KEYS = st.one_of(st.text(), SCALARS, st.tuples(SCALARS, SCALARS), st.frozensets(st.integers()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Holder, held=inner)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_every_value_has_a_form(value):
    read = form(value)
    if type(value) is dict and not any("\0" in str(key) for key in value):
        assert len(read) == len(value), "no key is lost"
