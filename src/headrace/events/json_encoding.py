"""Values of graphs as the JSON that clients of the LangGraph API expect, whole or in pieces."""

from collections.abc import Iterator
from typing import Any

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage

from headrace.db.jsonb import load_jsonb
from headrace.json_text import json_text

#: The approximate size of a chunk that is sent.
PIECE_BYTES = 256 * 1024

#: How many levels are written in pieces: a page, its states, their values, lists of messages.
_DEPTH = 5


def encode_json(value: Any) -> bytes:
    """JSON of any value in a graph's state. It never raises (docs/values.md)."""
    return json_text(value)


def storable(value: Any) -> Any:
    """The value as plain JSON that Postgres's ``jsonb`` can store. It never raises."""
    return load_jsonb(json_text(value))


def message_form(message: BaseMessage) -> Any:
    """The message, or a value with the JSON of the message that is quicker to encode.

    A token of a model is most often text alone. ``model_dump()`` would copy each of its fields.
    """
    if type(message) is not AIMessageChunk:
        return message
    fields = message.__dict__
    plain = (
        type(message.content) is str
        and not message.__pydantic_extra__
        and not (message.tool_calls or message.tool_call_chunks or message.invalid_tool_calls)
        and not (message.additional_kwargs or message.response_metadata or message.usage_metadata)
    )
    return fields if plain else message


class Repeated:
    """Encodes a value once if it comes several times in a row."""

    __slots__ = ("_form", "_size", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._size = 0
        self._form: Any = None

    def form(self, value: dict[str, Any]) -> Any:
        """A value with the JSON of ``value``, which nobody changes as long as it comes."""
        if value is not self._value or len(value) != self._size:
            self._value, self._size = value, len(value)
            # A copy: orjson returns even short JSON in a buffer of 4 KB.
            self._form = orjson.Fragment(bytes(memoryview(encode_json(value))))
        return self._form


def json_pieces(value: Any, depth: int = _DEPTH) -> Iterator[bytes]:
    """The JSON of :func:`encode_json`, in pieces."""
    if depth and type(value) is dict and all(type(key) is str for key in value):
        separator = b"{"
        for key, item in value.items():
            yield separator + encode_json(key) + b":"
            yield from json_pieces(item, depth - 1)
            separator = b","
        yield b"{}" if separator == b"{" else b"}"
    elif depth and type(value) in (list, tuple):
        separator = b"["
        for item in value:
            yield separator
            yield from json_pieces(item, depth - 1)
            separator = b","
        yield b"[]" if separator == b"[" else b"]"
    else:
        yield encode_json(value)


def sliced(body: bytes) -> Iterator[bytes]:
    """``body`` in pieces of at most ``PIECE_BYTES``."""
    if len(body) <= PIECE_BYTES:
        yield body
    else:
        view = memoryview(body)
        for first in range(0, len(body), PIECE_BYTES):
            yield bytes(view[first : first + PIECE_BYTES])
