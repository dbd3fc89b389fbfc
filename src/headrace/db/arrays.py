"""Columns of a multi-row statement as binary array parameters, for ``unnest($1, $2, ...)``.

psycopg's own array dumpers inspect each element for its type, and escape each text with a regular
expression. Here the caller already has each element in Postgres's binary form, so a column is one
``join``. ``array_recv`` in PostgreSQL's ``utils/adt/arrayfuncs.c`` defines the format: the number
of dimensions, whether there are nulls, the type of the elements, the number of elements, and the
lower bound. Then each element follows its length; the length of NULL is -1.
"""

from collections.abc import Sequence
from struct import Struct
from uuid import UUID

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = Struct("!IIIII")
_LENGTH = Struct("!i")
_NULL = _LENGTH.pack(-1)
_INT4 = Struct("!i")
_INT8 = Struct("!q")

#: The only version of jsonb's binary form, ``jsonb_recv`` in ``utils/adt/jsonb.c``.
_JSONB_VERSION = b"\x01"


class Column:
    """Elements in binary form, None for NULL. The subclass of each type has its two OIDs."""

    __slots__ = ("elements",)
    oid = 0
    element_oid = 0

    def __init__(self, elements: Sequence[bytes | None]) -> None:
        self.elements = elements


class Text(Column):
    """``text[]``; elements are UTF-8."""

    oid, element_oid = 1009, 25


class Bytea(Column):
    """``bytea[]``."""

    oid, element_oid = 1001, 17


class Jsonb(Column):
    """``jsonb[]``; elements are JSON text in UTF-8."""

    oid, element_oid = 3807, 3802

    def __init__(self, elements: Sequence[bytes | None]) -> None:
        super().__init__([None if item is None else _JSONB_VERSION + item for item in elements])


class Boolean(Column):
    """``bool[]``."""

    oid, element_oid = 1000, 16

    def __init__(self, elements: Sequence[bool]) -> None:
        super().__init__([b"\x01" if item else b"\x00" for item in elements])


class Integer(Column):
    """``int4[]``."""

    oid, element_oid = 1007, 23

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__([_INT4.pack(item) for item in elements])


class BigInteger(Column):
    """``int8[]``."""

    oid, element_oid = 1016, 20

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__([_INT8.pack(item) for item in elements])


class Uuid(Column):
    """``uuid[]``."""

    oid, element_oid = 2951, 2950

    def __init__(self, elements: Sequence[UUID]) -> None:
        super().__init__([item.bytes for item in elements])


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> Buffer:
        elements = obj.elements
        length = _LENGTH.pack
        parts = [_HEADER.pack(1, None in elements, obj.element_oid, len(elements), 1)]
        for item in elements:
            if item is None:
                parts.append(_NULL)
            else:
                parts += (length(len(item)), item)
        return b"".join(parts)


def register_columns(context: AdaptContext) -> None:
    """Let ``context``, a connection, accept columns as parameters."""
    for column in (Text, Bytea, Jsonb, Boolean, Integer, BigInteger, Uuid):
        dumper = type(f"{column.__name__}ColumnDumper", (_ColumnDumper,), {"oid": column.oid})
        context.adapters.register_dumper(column, dumper)
