"""JSON for jsonb columns: what ``json.dumps`` and ``json.loads`` would give, at orjson's speed.

Where the two modules differ, ``json`` decides, as upstream's saver has it: integers beyond 64 bits
stay exact, keys that are no text become text, NaN and infinities are refused by Postgres instead of
becoming null. Only UUIDs and enums, which it refuses, become their text and their value.
"""

import json
import re
from enum import Enum
from math import isfinite
from typing import Any

import orjson

#: Dataclasses, dates and subclasses of JSON's own types are left to ``json``, which refuses the
#: first two.
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)

#: A number this long may not fit into 64 bits, which orjson would round. Postgres prints jsonb with
#: a space after colons and commas, so this finds numbers, at worst some text, but no key.
_LONG_NUMBER = re.compile(rb"(?:^|[:,\[] ?)-?\d{18}")


def dump_jsonb(value: Any) -> bytes:
    """``value`` as JSON text.

    :raises TypeError: it holds what JSON has no form for.
    """
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # orjson's own error is one
        return json.dumps(value).encode()
    # A null may have been a NaN.
    return json.dumps(value).encode() if b"null" in text and _not_finite(value) else text


def _not_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is somewhere in what orjson has taken."""
    if isinstance(value, float):
        return not isfinite(value)
    if isinstance(value, dict):
        return any(map(_not_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_not_finite, value))
    return isinstance(value, Enum) and _not_finite(value.value)


def load_jsonb(text: str | bytes) -> Any:
    """The value of JSON text that Postgres has printed."""
    printed = text.encode() if isinstance(text, str) else text
    return json.loads(printed) if _LONG_NUMBER.search(printed) else orjson.loads(printed)
