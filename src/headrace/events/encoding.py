"""Values of graphs as the JSON that clients of the LangGraph API expect."""

import base64
import re
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_json(value: Any) -> bytes:
    """JSON of anything a graph's state may hold.

    Messages and other pydantic models become their fields, exceptions their ``repr``, bytes base64;
    what has no better form its ``str``. Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
    """
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except TypeError:
        return orjson.dumps(_plain(value), default=_default, option=_OPTIONS)


def storable(value: Any) -> Any:
    """The value as Postgres's ``jsonb`` can hold it: plain JSON without NUL characters."""
    return orjson.loads(encode_json(value).replace(b"\\u0000", b"\\ufffd"))


def _default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, BaseException):
        return repr(value)
    return str(value)


def _plain(value: Any) -> Any:
    """The same value with strings and integers that orjson refuses put right."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value
