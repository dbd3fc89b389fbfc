"""Values of graphs as the JSON that clients of the LangGraph API expect, whole or in pieces."""

from collections.abc import Iterator
from typing import Any

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
