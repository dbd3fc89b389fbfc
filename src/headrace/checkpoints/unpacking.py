"""Makes values again from msgpack, with bounds.

The rows decide what is read here: which class is called, and how deep and how large values are. So
a class is imported only after :class:`AllowedTypes` has allowed it. A value inside of an extension
type is decoded by a call inside of a call, on the same stack, and from a copy of its bytes: 30 of
them with 1,000 lists each end LangGraph's process. So both are bounded.
"""

import importlib
import math
import re
from collections.abc import Callable
from time import sleep
from typing import Any

import orjson
import ormsgpack
import structlog
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)
from langgraph.types import Send

from headrace.checkpoints.allowed_types import AllowedTypes, TypeKey, shown
from headrace.checkpoints.nesting import nesting
from headrace.checkpoints.upstream import DeltaSnapshot

_log = structlog.stdlib.get_logger("headrace.checkpoints")

#: Values of extension types inside of each other.
_MAX_EXTENSIONS = 100
#: So many of them may nest as deep as msgpack can: 1,024 lists and objects.
_FREE_EXTENSIONS = 2
#: Lists and objects that all further ones may have together. A level takes up to 1 KiB of a stack
#: that may have 8 MiB.
_MAX_LEVELS = 1000
#: The bytes that are copied for a value: so many times its own, but at least a few.
_COPIES = 32
_FREE_BYTES = 16 * 1024 * 1024

#: Types of arrays of numbers, texts and times; not of objects.
_NUMBERS = re.compile(r"[<>|=]?[biufcmMSUV?]\d{0,9}(\[\w{1,20}\])?")


#: What validators of a model raise for fields that do not fit.
_UNFIT = (ValueError, TypeError, AssertionError)


#: An array without numbers may have so many parts: its shape takes no bytes, its JSON does.
_MOST_EMPTY = 10_000
#: Characters of all patterns of a value: a set of characters takes up to 20 ms to compile.
_MOST_PATTERNS = 1000
#: Characters of the arguments of a call in a chunk of a message, unless they are whole JSON.
#: LangChain tries to read each beginning of them.
_MOST_PARTIAL = 4000


#: After so many values of extension types, other threads take their turn.
_TURN = 32


class Unreadable(ValueError):
    """The stored bytes are damaged, or nest too deep."""


class Unpacking:
    """Reads one stored value.

    :ivar blocked: the types that were not allowed; their fields stand in the value instead.
    """

    __slots__ = (
        "_allowed",
        "_failure",
        "_left",
        "_levels",
        "_made_count",
        "_open",
        "_patterns",
        "blocked",
    )

    def __init__(self, allowed: AllowedTypes) -> None:
        self._allowed = allowed
        self._failure: Unreadable | None = None
        self._left = _FREE_BYTES
        self._levels = _MAX_LEVELS
        self._open = 0
        self._made_count = 0
        self._patterns = _MOST_PATTERNS
        self.blocked: set[TypeKey] = set()

    def value(self, data: bytes) -> Any:
        """The value of ``data``.

        :raises ValueError: it is damaged, nests too deep, or is of an unknown form.
        """
        self._left = max(_FREE_BYTES, _COPIES * len(data))
        try:
            found = self._unpacked(data)
        except ValueError:
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure
        return found

    def _unpacked(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def _extension(self, code: int, data: bytes) -> Any:
        # ormsgpack forgets which error is raised here.
        if self._failure is not None:
            return None
        self._made_count += 1
        if not self._made_count % _TURN:
            # In a thread: the event loop would wait for its turn for 5 ms after each system call.
            sleep(0)
        levels = self._charge(data)
        if self._failure is not None:
            return None
        self._open += 1
        try:
            return self._made(code, self._unpacked(data))
        except Unreadable as failure:
            self._failure = failure
        except ValueError as error:
            self._failure = self._failure or Unreadable(str(error))
        finally:
            self._open -= 1
            self._levels += levels
        return None

    def _charge(self, data: bytes) -> int:
        """Count the bytes and the levels of one extension type; returns its levels."""
        self._left -= len(data)
        if self._left < 0 or self._open >= _MAX_EXTENSIONS:
            self._failure = Unreadable("values of types nest too deep")
            return 0
        if self._open < _FREE_EXTENSIONS:
            return 0
        levels = len(data) if len(data) < 16 else nesting(data, self._levels)
        self._levels -= levels
        if self._levels < 0:
            self._failure = Unreadable("values of types nest too deep")
        return levels

    def _made(self, code: int, content: Any) -> Any:
        """:raises Unreadable: the content has not the form that LangGraph writes."""
        if code == EXT_DELTA_SNAPSHOT:
            return DeltaSnapshot(content)
        if code == EXT_NUMPY_ARRAY:
            return _array(content)
        make = _MAKERS.get(code)
        if make is None:
            raise Unreadable(f"unknown extension type {code}")
        if not (
            isinstance(content, list)
            and len(content) >= 3
            and isinstance(content[0], str)
            and isinstance(content[1], str)
        ):
            raise Unreadable(f"extension type {code} names no type")
        module, name, payload, *rest = content
        if code == EXT_METHOD_SINGLE_ARG:
            method = str(rest[0]) if rest else ""
            allowed = self._allowed.allows_method(module, name, method)
        else:
            method, allowed = "", self._allowed.allows(module, name)
        if not allowed:
            self.blocked.add(self._allowed.block(module, name, method))
            return payload
        self._refuse_costly(module, name, payload)
        try:
            kind = getattr(importlib.import_module(module), name)
            return make(getattr(kind, method) if method else kind, payload)
        except Exception as error:
            # The class has moved, or does not take what its earlier form has stored. LangGraph
            # gives the fields, too.
            if self._allowed.is_news("unbuilt", (module, name)):
                _log.warning(
                    "type_not_rebuilt",
                    type=shown((module, name)),
                    error=type(error).__name__,
                    note="its fields are given to the graph instead",
                    exc_info=error,
                )
            return payload

    def _refuse_costly(self, module: str, name: str, payload: Any) -> None:
        """:raises Unreadable: making this value would take seconds for few bytes."""
        if (module, name) == ("re", "compile"):
            # By position, by name, or alone.
            parts = payload.values() if isinstance(payload, dict) else payload
            given = [payload] if isinstance(payload, str | bytes) else parts
            self._patterns -= sum(len(one) for one in given if isinstance(one, str | bytes))
            if self._patterns < 0:
                raise Unreadable(f"re:compile has more than {_MOST_PATTERNS} characters")
        elif name == "AIMessageChunk" and isinstance(payload, dict):
            chunks = payload.get("tool_call_chunks")
            texts = [one.get("args") for one in chunks or () if isinstance(one, dict)]
            partial = [one for one in texts if isinstance(one, str) and not _is_json(one)]
            if sum(map(len, partial)) > _MOST_PARTIAL:
                raise Unreadable(f"{module}:{name} has a call with a long beginning of JSON")


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _of_positions(kind: Any, payload: Any) -> Any:
    if kind is Send and len(payload) == 3:
        return Send(payload[0], payload[1], timeout=payload[2])
    return kind(*payload)


def _of_fields(kind: Any, payload: Any) -> Any:
    return kind(**payload)


def _of_argument(kind: Any, payload: Any) -> Any:
    return kind(payload)


def _of_model(kind: Any, payload: Any) -> Any:
    try:
        return kind(**payload)
    except _UNFIT:
        return kind.model_construct(**payload)


def _of_old_model(kind: Any, payload: Any) -> Any:
    try:
        return kind(**payload)
    except _UNFIT:
        return kind.construct(**payload)


_MAKERS: dict[int, Callable[[Any, Any], Any]] = {
    EXT_CONSTRUCTOR_SINGLE_ARG: _of_argument,
    EXT_CONSTRUCTOR_POS_ARGS: _of_positions,
    EXT_CONSTRUCTOR_KW_ARGS: _of_fields,
    EXT_METHOD_SINGLE_ARG: _of_argument,
    EXT_PYDANTIC_V1: _of_old_model,
    EXT_PYDANTIC_V2: _of_model,
}


def _array(content: Any) -> Any:
    """:raises Unreadable: the content is no array of numbers, texts or times."""
    try:
        numpy = importlib.import_module("numpy")
        kind, shape, order, data = content
        if not _NUMBERS.fullmatch(kind):
            raise TypeError(f"arrays of {kind[:20]!r} are not stored")
        if not data and math.prod(length or 1 for length in shape) > _MOST_EMPTY:
            raise TypeError("the shape of an array has more parts than numbers")
        return numpy.frombuffer(data, dtype=numpy.dtype(kind)).reshape(shape, order=order)
    except Exception as error:
        raise Unreadable(f"an array is damaged ({type(error).__name__})") from error
