"""Values of graphs as the JSON that clients of the LangGraph API expect, whole or in pieces."""

from collections.abc import Iterator
from typing import Any

from headrace.db.jsonb import load_jsonb
from headrace.json_text import json_text

#: About what is sent at once.
PIECE_BYTES = 256 * 1024

#: Levels that are taken apart: a page, its states, their values, lists of messages.
_DEPTH = 5


def encode_json(value: Any) -> bytes:
    """JSON of anything a graph's state may hold; never raises (docs/values.md)."""
    return json_text(value)


def storable(value: Any) -> Any:
    """The value as Postgres's ``jsonb`` can hold it: plain JSON; never raises."""
    return load_jsonb(json_text(value))


def json_pieces(value: Any, depth: int = _DEPTH) -> Iterator[bytes]:
    """What ``encode_json`` makes of ``value``, in pieces."""
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
    """The same bytes in pieces that can be sent one after the other."""
    if len(body) <= PIECE_BYTES:
        yield body
    else:
        view = memoryview(body)
        for first in range(0, len(body), PIECE_BYTES):
            yield bytes(view[first : first + PIECE_BYTES])
