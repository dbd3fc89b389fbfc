"""JSON for jsonb columns, at the speed of orjson.

Integers beyond 64 bits stay exact. If JSON or Postgres has no form for a value, it gets the form
that it has in answers (docs/values.md): NUL becomes U+FFFD, NaN becomes null. So no value makes a
statement fail.
"""

import json
import re
from math import isfinite
from typing import Any

import orjson

from headrace.json_text import json_text

#: Finds a number that may need more than 64 bits, which orjson would round. Postgres prints jsonb
#: with a space after colons and commas. So this may also find a text, but never a key.
_LONG_NUMBER = re.compile(rb"(?:^|[:,\[] ?)-?\d{18}")

#: Types that LangGraph's savers store in the JSON of a checkpoint.
PLAIN = (str, int, float, bool)

#: Postgres prints a float of this size or more without a point: it would be read as an integer.
_FIRST_WITHOUT_POINT = 1e16
#: Levels of lists and objects that are written; :func:`load_jsonb` can read a few more.
_MAX_DEPTH = 900
#: Bits of the largest integer that :func:`dump_jsonb` writes as a number.
_MAX_BITS = 1023


def is_exact(value: str | float) -> bool:
    """Whether a plain value comes back unchanged from a jsonb column."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, float):
        return isfinite(value) and abs(value) < _FIRST_WITHOUT_POINT
    return value.bit_length() <= _MAX_BITS


def dump_jsonb(value: Any) -> bytes:
    """``value`` as JSON text that Postgres accepts."""
    return json_text(value, max_depth=_MAX_DEPTH)


def load_jsonb(text: str | bytes) -> Any:
    """The value of JSON text that Postgres has printed.

    It never raises, because one statement reads rows of many threads. Python cannot read, for
    example, a number of ten thousand digits, or a thousand levels of lists. These stay text.
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
