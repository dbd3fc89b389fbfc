"""JSON for jsonb columns, at orjson's speed: whatever Postgres can hold of a value, and back.

Integers beyond 64 bits stay exact. What JSON or Postgres has no form for has the one that answers
give it (docs/values.md): NUL is U+FFFD, NaN is null. No value fails the statement it is part of.
"""

import json
import re
from math import isfinite
from typing import Any

import orjson

from headrace.json_text import json_text

#: A number this long may not fit into 64 bits, which orjson would round. Postgres prints jsonb with
#: a space after colons and commas, so this finds numbers, at worst some text, but no key.
_LONG_NUMBER = re.compile(rb"(?:^|[:,\[] ?)-?\d{18}")

#: What saves of LangGraph put into a checkpoint's JSON.
PLAIN = (str, int, float, bool)

#: From here on jsonb prints a float as digits without a point, which read back are an integer.
_FIRST_WITHOUT_POINT = 1e16
#: Levels of lists and objects, a little less than what :func:`load_jsonb` can read.
_MAX_DEPTH = 900
#: What :func:`dump_jsonb` writes as a number.
_MAX_BITS = 1023


def is_exact(value: str | float) -> bool:
    """Whether a plain value comes back from a jsonb column as it was."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, float):
        return isfinite(value) and abs(value) < _FIRST_WITHOUT_POINT
    return value.bit_length() <= _MAX_BITS


def dump_jsonb(value: Any) -> bytes:
    """``value`` as JSON text that Postgres takes."""
    return json_text(value, max_depth=_MAX_DEPTH)


def load_jsonb(text: str | bytes) -> Any:
    """The value of JSON text that Postgres has printed.

    Never raises: a statement reads rows of many threads. What Python cannot hold, such as a number
    of ten thousand digits or lists in lists a thousand levels deep, comes back as its text.
    """
    printed = text.encode() if isinstance(text, str) else text
    try:
        return json.loads(printed) if _LONG_NUMBER.search(printed) else orjson.loads(printed)
    except (ValueError, RecursionError):
        return _carefully(printed)


def _carefully(printed: bytes) -> Any:
    try:
        return json.loads(printed, parse_int=_integer)
    except (ValueError, RecursionError):
        return printed.decode(errors="replace")


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits
