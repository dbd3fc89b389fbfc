"""Pages of rows that end where they would hold more bytes than an answer may have.

A page is measured before its large columns are read: what Postgres stores outside of a row is not
fetched for a row that is left out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, literal_column, or_, select
from sqlalchemy.orm import aliased, defer
from sqlalchemy.orm.attributes import set_committed_value

from headrace.db.tables import Base

Row = TypeVar("Row")
Entity = TypeVar("Entity", bound=Base)

#: JSON text is at most so many times what is stored: Postgres compresses no better, and a control
#: character is one byte there and six here.
_INFLATED, _ESCAPED = 256, 6


@dataclass(frozen=True, slots=True)
class RowPage(Generic[Row]):
    """The first rows of a page, one at least.

    :ivar found: how many there are, with those that were left out.
    :ivar bytes: what all of them come to.
    """

    rows: Sequence[Row]
    found: int
    bytes: int

    @property
    def is_short(self) -> bool:
        return len(self.rows) < self.found


def size_of(columns: Sequence[str], row: str, *, share_bytes: int) -> str:
    """The SQL of what the columns of one row come to as JSON.

    Writing JSON out costs as much as reading it: that is done only for what might be more than
    ``share_bytes``. Smaller ones count as they are stored.
    """
    return " + ".join(
        f"coalesce(CASE WHEN pg_column_size({row}.{name}) * CASE"
        f" WHEN pg_column_compression({row}.{name}) IS NULL THEN {_ESCAPED} ELSE {_INFLATED} END"
        f" <= {share_bytes} THEN pg_column_size({row}.{name})"
        f" ELSE octet_length({row}.{name}::text) END, 0)"
        for name in columns
    )


def share(max_bytes: int, limit: int) -> int:
    """What each of so many rows may come to on a page of so many bytes."""
    return max_bytes // max(limit, 1)


def within(
    statement: Select[Any],
    entity: type[Entity],
    large: Sequence[str],
    *,
    limit: int,
    max_bytes: int,
    without: Collection[str] = (),
) -> Select[tuple[Entity, int, int]]:
    """The rows of ``statement``, which has an order, as far as ``max_bytes`` go.

    :param large: the columns that may be so.
    :param without: of these what is not read.
    """
    page = statement.limit(limit).subquery("page")
    names = [name for name in large if name not in without]
    size = size_of(names, "page", share_bytes=share(max_bytes, limit)) if names else "0"
    numbered = select(
        page,
        literal_column(size).label("row_bytes"),
        func.row_number().over().label("row_place"),
    ).subquery("numbered")
    place, bytes_ = numbered.c.row_place, numbered.c.row_bytes
    measured = select(
        numbered,
        func.count().over().label("found"),
        func.sum(bytes_).over().label("all_bytes"),
        func.sum(bytes_).over(order_by=place).label("bytes_so_far"),
    ).subquery("measured")
    shown = aliased(entity, measured)
    bounded = (
        select(shown, measured.c.found, measured.c.all_bytes)
        .where(or_(measured.c.row_place == 1, measured.c.bytes_so_far <= max_bytes))
        .order_by(measured.c.row_place)
    )
    return bounded.options(*(defer(getattr(shown, _attribute(name))) for name in without))


def page_of(found: Sequence[Any], without: Collection[str] = ()) -> RowPage[Any]:
    """Of what :func:`within` has found; columns that were not read are ``{}``."""
    if not found:
        return RowPage((), 0, 0)
    for row in found:
        for name in without:
            set_committed_value(row[0], _attribute(name), {})
    return RowPage([row[0] for row in found], int(found[0][1]), int(found[0][2]))


def text_within(
    page: str, columns: Sequence[str], large: Sequence[str], *, limit: int, max_bytes: int
) -> str:
    """As :func:`within`, of a SELECT of ``columns`` in SQL; its rows have ``found`` and
    ``all_bytes`` besides."""
    size = size_of(large, "page", share_bytes=share(max_bytes, limit))
    names = ", ".join(columns)
    return f"""
        SELECT {names}, found, all_bytes FROM (
          SELECT *, count(*) OVER () AS found, sum(row_bytes) OVER () AS all_bytes,
            sum(row_bytes) OVER (ORDER BY row_place) AS bytes_so_far
          FROM (
            SELECT *, {size} AS row_bytes, row_number() OVER () AS row_place FROM ({page}) AS page
          ) AS numbered
        ) AS measured
        WHERE row_place = 1 OR bytes_so_far <= {max_bytes}
        ORDER BY row_place"""  # noqa: S608 - of constants and numbers


def _attribute(column: str) -> str:
    # SQLAlchemy keeps the other name to itself.
    return "metadata_" if column == "metadata" else column
