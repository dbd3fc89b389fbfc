"""Large values as JSON piece by piece: what holds others is never written as a whole."""

from collections.abc import Iterator
from typing import Any

from headrace.events.encoding import encode_json

#: About what is sent at once.
PIECE_BYTES = 256 * 1024

#: Levels that are taken apart: a page, its states, their values, lists of messages.
_DEPTH = 5


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
