"""Large texts and bytes in a value are not copied when the value is packed in msgpack.

Packing copies a value on the event loop. For 20 MB that takes 10 ms of the processor, most of it
for new pages of memory, and on a busy machine much longer. So a large leaf is taken out before, and
the packed value consists of pieces, of which the leaf itself is one. Texts and bytes cannot change,
so the pieces may be joined later, in a thread.
"""

import os
from dataclasses import is_dataclass
from itertools import islice
from struct import Struct
from typing import Any

from pydantic import BaseModel

from headrace.db.arrays import Piece, Pieces

#: A leaf with more bytes is taken out.
_LARGE_BYTES = 256 * 1024
#: So many levels of containers are searched. A list of messages with a picture has five: the list,
#: the fields of a message, its content, a block, and the part of the block with the URL.
_LEVELS = 5
#: So many members of a container are searched: half of them the first, half of them the last.
_MEMBERS = 64

#: Heads of msgpack's longest forms. A large leaf, and what contains it, always has them.
_STR32, _BIN32, _EXT32 = Struct("!BI"), Struct("!BI"), Struct("!BIb")
_STR32_CODE, _BIN32_CODE, _EXT32_CODE = 0xDB, 0xC6, 0xC9

#: A place holder is msgpack's short form of bytes: a mark that occurs nowhere else, and a number.
_MARK_BYTES = 16
_NUMBER = Struct("!I")
_BIN8 = bytes((0xC4, _MARK_BYTES + _NUMBER.size))

_CONTAINERS = frozenset((list, tuple, dict))
_SMALL = frozenset((bool, float, int, type(None)))


def holds_large(value: Any, levels: int = _LEVELS) -> bool:
    """Whether a large text or bytes object is in ``value``, as far as that is quickly seen."""
    kind = type(value)
    if kind is dict:
        members = value.values()
    elif kind is list or kind is tuple:
        members = value
        if len(members) > _MEMBERS:
            members = (*members[: _MEMBERS // 2], *members[-_MEMBERS // 2 :])
    elif isinstance(value, BaseModel) or is_dataclass(value):
        members = getattr(value, "__dict__", {}).values()
    else:
        return False
    for member in members if len(members) <= _MEMBERS else islice(members, _MEMBERS):
        kind = type(member)
        if kind is str or kind is bytes:
            if len(member) > _LARGE_BYTES:
                return True
        elif kind in _SMALL or (kind in _CONTAINERS and not member):
            continue
        elif levels > 1 and holds_large(member, levels - 1):
            return True
    return False


class LargeLeaves:
    """The leaves that are taken out of one value, until it is packed."""

    __slots__ = ("_mark", "_taken")

    def __init__(self) -> None:
        self._mark = b""
        self._taken: list[Pieces] = []

    def taken_from(self, value: Any, levels: int = _LEVELS) -> Any:
        """``value``, or a copy with a place holder for each large leaf."""
        kind = type(value)
        if kind is bytes:
            if len(value) <= _LARGE_BYTES:
                return value
            return self.replaced(_BIN32.pack(_BIN32_CODE, len(value)), value)
        if kind is str:
            # Each character is a byte. Another text has to be encoded to know its length.
            if len(value) <= _LARGE_BYTES or not value.isascii():
                return value
            return self.replaced(_STR32.pack(_STR32_CODE, len(value)), value)
        if not levels or kind not in _CONTAINERS:
            return value
        members = value.values() if kind is dict else value
        before = len(self._taken)
        changed = [self.taken_from(member, levels - 1) for member in members]
        if len(self._taken) == before:
            return value
        return dict(zip(value, changed, strict=True)) if kind is dict else kind(changed)

    def replaced(self, *pieces: Piece) -> bytes:
        """A place holder for these bytes of msgpack."""
        self._mark = self._mark or os.urandom(_MARK_BYTES)
        self._taken.append(Pieces(pieces))
        return self._mark + _NUMBER.pack(len(self._taken) - 1)

    def put_back(self, packed: bytes) -> bytes | Pieces:
        """The packed value, with the leaves in place of the place holders."""
        if not self._taken:
            return packed
        first, *rest = packed.split(_BIN8 + self._mark)
        pieces: list[Piece] = [first]
        for part in rest:
            (number,) = _NUMBER.unpack_from(part)
            pieces += (*self._taken[number].pieces, part[_NUMBER.size :])
        return Pieces(pieces)


def extension(code: int, content: Pieces) -> tuple[Piece, ...]:
    """msgpack's extension type ``code`` with this content."""
    return (_EXT32.pack(_EXT32_CODE, len(content), code), *content.pieces)
