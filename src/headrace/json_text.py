"""JSON text of any Python value, for answers and for the database.

``orjson`` writes most values. This module writes the others step by step: without recursion, to a
bounded depth and with bounded work. User code runs in between (``model_dump``, ``__str__``,
iterators). Whatever it raises, the value gets a form: in the last resort the name of its class.
docs/values.md lists the forms.
"""

import base64
import dataclasses
import re
from collections import UserList, deque
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

#: :func:`_nearer` handles dataclasses and dates. If an attribute or time zone raises, orjson ends
#: the process with a segmentation fault.
_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)

#: Levels of lists and objects. orjson writes 254; clients' parsers stop at about a thousand.
MAX_DEPTH = 400
#: Values that this module writes for one text, without orjson: about one second.
MAX_ITEMS = 100_000
#: Characters of a ``str()``.
MAX_WORDS = 100_000
#: On so many outer levels, orjson first tries each part alone: one odd value must not make a large
#: state slow.
_TRIED_LEVELS = 3
#: Steps from an object to a type of JSON.
_MAX_STEPS = 20
#: A longer integer may exceed a double, and many parsers refuse it: it is written as a text.
_MAX_NUMBER_BITS = 1023
#: Python refuses to write the digits of a longer number.
_MAX_DIGIT_BITS = 14_000

TOO_DEEP = "... (nested too deeply)"
TOO_MANY = "... (too many values)"
CYCLE = "... (contains itself)"
_MASK = "**********"

#: A NUL whose backslash is not escaped.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
#: Characters that Postgres (NUL) or UTF-8 (half a surrogate pair) cannot store.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def json_text(value: Any, *, max_depth: int = MAX_DEPTH) -> bytes:
    """``value`` as JSON on one line. It never raises.

    NUL, which Postgres cannot store, and half a surrogate pair, which UTF-8 cannot encode, become
    U+FFFD. NaN and the infinities become null.

    :param max_depth: levels of lists and objects; deeper ones are cut off.
    """
    try:
        text = orjson.dumps(value, default=_nearer, option=_OPTIONS)
    except TypeError:  # orjson also raises it for errors of user code
        text = _Text(max_depth).of(value)
    return _NUL.sub(rb"\1\\ufffd", text) if b"\\u0000" in text else text


def _nearer(value: Any) -> Any:
    """A value that is nearer to JSON than ``value``, which orjson does not know.

    :raises BaseException: any error of the value's own code.
    """
    # Nearly every answer has some, and all tests below take long.
    if type(value) is datetime:
        return value.isoformat()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple):
        names = getattr(type(value), "_fields", None)
        if isinstance(names, tuple) and len(names) == tuple.__len__(value):
            return dict(zip(names, tuple.__iter__(value), strict=True))
        return list(tuple.__iter__(value))
    if isinstance(value, set | frozenset | deque | UserList | KeysView | ValuesView | ItemsView):
        return _some(value)
    if isinstance(value, Mapping):
        return dict(_some(value.items()))
    if _is_dataclass(value):
        return {name: getattr(value, name) for name in _field_names(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, BaseException):
        return _cut(repr(value))
    return _of_other(value)


def _of_other(value: Any) -> Any:
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, re.Pattern):
        return value.pattern
    kind = type(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(kind, "tolist"):
        # Arrays that orjson refuses: of objects, of dates, with gaps.
        return (value.astype(str) if value.dtype.kind in "mM" else value).tolist()
    if hasattr(kind, "get_secret_value"):
        return _MASK
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    if hasattr(kind, "__fields__") and hasattr(kind, "dict"):
        # pydantic's first version.
        return value.dict()
    return _words(value)


def _some(values: Iterable[Any]) -> list[Any]:
    """The values, but no more than one text may hold."""
    return list(islice(values, MAX_ITEMS + 1))


def _words(value: Any) -> str:
    """The ``str()``, the ``repr()`` or the name of the class of a value. It never raises."""
    for words in (str, repr):
        with suppress(BaseException):
            return _cut(words(value))
    # Not by attribute: a metaclass may override ``__name__``.
    return f"<{type.__dict__['__name__'].__get__(type(value))}>"


def _cut(text: str) -> str:
    plain = str.__str__(text)
    return plain if len(plain) <= MAX_WORDS else f"{plain[:MAX_WORDS]}..."


def _step(value: Any) -> Any:
    """The result of :func:`_nearer`, or the fields, or the text of a value. It never raises."""
    with suppress(BaseException):
        return value.value if isinstance(value, Enum) else _nearer(value)
    return _fields(value)


def _fields(value: Any) -> Any:
    """The fields of a model or dataclass whose own code has failed; else the text of the value."""
    with suppress(BaseException):
        if isinstance(value, BaseModel):
            known = type(value).model_fields
            held = {**value.__dict__, **(value.__pydantic_extra__ or {})}
            return {
                name: item
                for name, item in held.items()
                if name not in known or not known[name].exclude
            }
        if _is_dataclass(value):
            return {name: _attribute(value, name) for name in _field_names(value)}
    return _words(value)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _field_names(value: Any) -> list[str]:
    """The public fields of a dataclass."""
    names = [field.name for field in dataclasses.fields(value)]
    return [name for name in names if not name.startswith("_")]


def _attribute(value: Any, name: str) -> Any:
    with suppress(BaseException):
        return getattr(value, name)
    return None


class _Text:
    """Writes one value, with a stack of its own in place of recursion."""

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._written: list[bytes] = []
        self._left = MAX_ITEMS
        #: The open lists and objects: their remaining parts, closing bracket, and ids on the path.
        self._open: list[tuple[Iterator[tuple[bytes, Any]], bytes, list[int]]] = []
        #: All open values by id, to find a value that contains itself.
        self._path: dict[int, Any] = {}

    def of(self, value: Any) -> bytes:
        self._put(value)
        while self._open:
            parts, close, ids = self._open[-1]
            part = next(parts, None)
            if part is not None:
                self._written.append(part[0])
                self._put(part[1])
                continue
            self._written.append(close)
            self._open.pop()
            for one in ids:
                self._path.pop(one, None)
        return b"".join(self._written)

    def _put(self, value: Any) -> None:
        """Write the value, or open it if it has parts."""
        self._left -= 1
        ids: list[int] = []
        for _ in range(_MAX_STEPS):
            text = _scalar(value) if self._left >= 0 else _quoted(TOO_MANY)
            if text is None and id(value) in self._path:
                text = _quoted(CYCLE)
            if text is None and len(self._open) >= self._max_depth:
                text = _quoted(TOO_DEEP)
            if text is None and 0 < len(self._open) <= _TRIED_LEVELS:
                text = _tried(value)
            if text is not None:
                break
            ids.append(id(value))
            self._path[id(value)] = value
            if issubclass(type(value), dict):
                self._open.append((self._members(value), b"}", ids))
                self._written.append(b"{")
                return
            if issubclass(type(value), list):
                self._open.append((self._elements(value), b"]", ids))
                self._written.append(b"[")
                return
            value = _step(value)
        else:
            text = _quoted(_words(value))
        self._written.append(text)
        for one in ids:
            self._path.pop(one, None)

    def _elements(self, value: list[Any]) -> Iterator[tuple[bytes, Any]]:
        comma = b""
        # A copy: user code may change the list in between.
        for item in list(islice(list.__iter__(value), max(self._left, 0) + 1)):
            yield comma, item
            comma = b","

    def _members(self, value: dict[Any, Any]) -> Iterator[tuple[bytes, Any]]:
        comma = b""
        items = list(islice(dict.items(value), max(self._left, 0) + 1))
        for name, (_, item) in zip(_names([key for key, _ in items]), items, strict=True):
            yield b"%b%b:" % (comma, _quoted(name)), item
            comma = b","


def _tried(value: Any) -> bytes | None:
    """The text of orjson; None if orjson refuses the value, or user code raises."""
    with suppress(BaseException):
        return orjson.dumps(value, default=_nearer, option=_OPTIONS)
    return None


def _scalar(value: Any) -> bytes | None:
    """The text of a value without parts; None for all others."""
    if value is None or value is True or value is False:
        return orjson.dumps(value)
    # Not isinstance(): ``__class__`` may be wrong, or raise.
    kind = type(value)
    if issubclass(kind, Enum):
        return None
    if issubclass(kind, str):
        return _quoted(value)
    if issubclass(kind, int):
        return _integer(int.__pos__(value))
    if issubclass(kind, float):
        return orjson.dumps(float.__pos__(value))
    return orjson.dumps(value) if kind is UUID else None


def _integer(number: int) -> bytes:
    bits = number.bit_length()
    if bits > _MAX_DIGIT_BITS:
        return _quoted(_cut(hex(number)))
    digits = int.__repr__(number)
    return digits.encode() if bits <= _MAX_NUMBER_BITS else _quoted(digits)


def _quoted(text: str) -> bytes:
    plain = str.__str__(text)
    try:
        return orjson.dumps(plain)
    except TypeError:
        return orjson.dumps(UNSTORABLE.sub(_REPLACEMENT, plain))


def _names(keys: list[Any]) -> list[str]:
    """A unique name for each key. Text keys keep their names. If the name of another key is taken,
    its type is appended."""
    taken = dict.fromkeys((key for key in keys if _is_name(key)), 1)
    return [key if _is_name(key) else _free(_name(key), key, taken) for key in keys]


def _is_name(key: Any) -> bool:
    return type(key) is str and UNSTORABLE.search(key) is None


def _free(name: str, key: Any, taken: dict[str, int]) -> str:
    name = UNSTORABLE.sub(_REPLACEMENT, name)
    if name not in taken:
        taken[name] = 1
        return name
    kind = f"{name} ({type.__dict__['__name__'].__get__(type(key))})"
    number = taken.get(kind, 0)
    while True:
        number += 1
        wanted = kind if number == 1 else f"{kind} {number}"
        if wanted not in taken:
            taken[kind] = number
            taken[wanted] = 1
            return wanted


def _name(key: Any) -> str:
    """The name of a key: the JSON text of a simple value, else its ``str()``."""
    for _ in range(_MAX_STEPS):
        kind = type(key)
        if issubclass(kind, str) and not issubclass(kind, Enum):
            return str.__str__(key)
        text = _scalar(key)
        if text is not None:
            return str(orjson.loads(text)) if text.startswith(b'"') else text.decode()
        if not issubclass(kind, Enum | bytes | date | time | timedelta):
            break
        key = _step(key)
    return _words(key)
