"""Columns of many rows as binary array parameters.

psycopg's own array dumpers inspect each element for its type, and escape each text with a regular
expression. Here the caller already has each element in Postgres's binary form, so a column is one
``join``. ``array_recv`` in PostgreSQL's ``utils/adt/arrayfuncs.c`` defines the format: the number
of dimensions, whether there are nulls, the type of the elements, the number of elements, and the
lower bound. Then each element follows its length; the length of NULL is -1. An element with its
length before it is a *field*.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from uuid import UUID

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = Struct("!IIIII")
_LENGTH = Struct("!i")
_INT4 = Struct("!ii")
_INT8 = Struct("!iq")
_UUID_LENGTH = _LENGTH.pack(16)
_TRUE = _LENGTH.pack(1) + b"\x01"
_FALSE = _LENGTH.pack(1) + b"\x00"

#: The only version of jsonb's binary form, ``jsonb_recv`` in ``utils/adt/jsonb.c``.
_JSONB_VERSION = b"\x01"

#: The field of NULL.
NULL_FIELD = _LENGTH.pack(-1)


def text_field(value: bytes | None) -> bytes:
    """The field of a text in UTF-8, or of bytes."""
    return NULL_FIELD if value is None else _LENGTH.pack(len(value)) + value


def jsonb_field(value: bytes | None) -> bytes:
    """The field of JSON text in UTF-8."""
    if value is None:
        return NULL_FIELD
    return _LENGTH.pack(len(value) + 1) + _JSONB_VERSION + value


def jsonb_size(field: bytes) -> int:
    """The bytes of the JSON text in a field."""
    return len(field) - _LENGTH.size - len(_JSONB_VERSION)


#: Bytes, or a text of ASCII only.
Piece = bytes | str

#: A text is encoded in parts of this size: another thread waits for one part at most.
_ENCODED_BYTES = 1024 * 1024


class Pieces:
    """Bytes in pieces. They are joined when they are sent, so that large ones are copied once."""

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """The bytes, in order."""
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                for begin in range(0, len(piece), _ENCODED_BYTES):
                    yield piece[begin : begin + _ENCODED_BYTES].encode("ascii")


class Column:
    """The binary form of an array parameter. Each subclass has two OIDs: its own and that of its
    elements.
    """

    __slots__ = ("dumped",)
    oid = 0
    element_oid = 0

    def __init__(self, fields: Sequence[bytes]) -> None:
        """From the fields of its elements."""
        self._dump(len(fields), NULL_FIELD in fields, fields)

    def _dump(self, count: int, has_null: bool, parts: Iterable[bytes]) -> None:
        header = _HEADER.pack(1, has_null, self.element_oid, count, 1)
        # One join: for a megabyte or more, it does not hold the interpreter's lock.
        self.dumped = b"".join((header, *parts))


class TextValue(Column):
    """Not an array: one ``text``, in UTF-8."""

    oid = 25

    def __init__(self, value: bytes) -> None:
        self.dumped = value


class TextFields(Column):
    """``text[]``, from fields."""

    oid, element_oid = 1009, 25


class JsonbFields(Column):
    """``jsonb[]``, from fields."""

    oid, element_oid = 3807, 3802


class Text(TextFields):
    """``text[]``; elements are UTF-8, None for NULL."""

    def __init__(self, elements: Sequence[bytes | None]) -> None:
        super().__init__([text_field(item) for item in elements])


class Bytea(Column):
    """``bytea[]``. Elements may be large, so they are copied only once."""

    oid, element_oid = 1001, 17

    def __init__(self, elements: Sequence[bytes | Pieces | None]) -> None:
        parts: list[bytes] = []
        for item in elements:
            if item is None:
                parts.append(NULL_FIELD)
            elif isinstance(item, Pieces):
                parts += (_LENGTH.pack(len(item)), *item.encoded())
            else:
                parts += (_LENGTH.pack(len(item)), item)
        self._dump(len(elements), None in elements, parts)


class Jsonb(JsonbFields):
    """``jsonb[]``; elements are JSON text in UTF-8, None for NULL."""

    def __init__(self, elements: Sequence[bytes | None]) -> None:
        super().__init__([jsonb_field(item) for item in elements])


class Boolean(Column):
    """``bool[]``."""

    oid, element_oid = 1000, 16

    def __init__(self, elements: Sequence[bool]) -> None:
        parts = [_TRUE if item else _FALSE for item in elements]
        self._dump(len(parts), False, parts)


class Integer(Column):
    """``int4[]``."""

    oid, element_oid = 1007, 23

    def __init__(self, elements: Sequence[int]) -> None:
        self._dump(len(elements), False, [_INT4.pack(4, item) for item in elements])


class BigInteger(Column):
    """``int8[]``."""

    oid, element_oid = 1016, 20

    def __init__(self, elements: Sequence[int]) -> None:
        self._dump(len(elements), False, [_INT8.pack(8, item) for item in elements])


class Uuid(Column):
    """``uuid[]``."""

    oid, element_oid = 2951, 2950

    def __init__(self, elements: Sequence[UUID]) -> None:
        parts: list[bytes] = []
        for item in elements:
            parts += (_UUID_LENGTH, item.bytes)
        self._dump(len(elements), False, parts)


_COLUMNS: tuple[type[Column], ...] = (
    TextValue,
    TextFields,
    JsonbFields,
    Text,
    Bytea,
    Jsonb,
    Boolean,
    Integer,
    BigInteger,
    Uuid,
)


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> Buffer:
        return obj.dumped


def register_columns(context: AdaptContext) -> None:
    """Let ``context``, a connection, accept columns as parameters."""
    for column in _COLUMNS:
        dumper = type(f"{column.__name__}ColumnDumper", (_ColumnDumper,), {"oid": column.oid})
        context.adapters.register_dumper(column, dumper)
