"""Pages of rows that end where they would hold more bytes than an answer may have.

A page is measured before its large columns are read: what Postgres stores outside of a row is not
fetched for a row that is left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Executable, Integer, Numeric, column, inspect, select, text
from sqlalchemy.orm import defer
from sqlalchemy.orm.attributes import set_committed_value

from headrace.db.engine import Session
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


def size_of(columns: Sequence[str], row: str, *, share: str) -> str:
    """The SQL of what the columns of one row come to as JSON.

    Writing JSON out costs as much as reading it: that is done only for what might be more than
    its share. Smaller ones count as they are stored.

    :param share: the SQL of how many bytes that is.
    """
    return " + ".join(
        f"coalesce(CASE WHEN pg_column_size({row}.{name}) * CASE"
        f" WHEN pg_column_compression({row}.{name}) IS NULL THEN {_ESCAPED} ELSE {_INFLATED} END"
        f" <= {share} THEN pg_column_size({row}.{name})"
        f" ELSE octet_length(CAST({row}.{name} AS text)) END, 0)"
        for name in columns
    )


def within(
    page: str, columns: Sequence[str], large: Sequence[str], *, most: str, share: str
) -> str:
    """The SQL for the first rows of ``page``, as far as bytes go.

    Its rows have ``columns``, and the ``found`` and ``all_bytes`` of a :class:`RowPage`.

    :param page: the SELECT of the page, with its order and its limit.
    :param large: the columns that may be so.
    :param most: the SQL of how many bytes the page may have.
    :param share: that of what each row may have of them.
    """
    size, names = size_of(large, "page", share=share) or "0", ", ".join(columns)
    return f"""
        SELECT {names}, found, all_bytes FROM (
          SELECT *, count(*) OVER () AS found, sum(row_bytes) OVER () AS all_bytes,
            sum(row_bytes) OVER (ORDER BY row_place) AS bytes_so_far
          FROM (
            SELECT *, {size} AS row_bytes, row_number() OVER () AS row_place FROM ({page}) AS page
          ) AS numbered
        ) AS measured
        WHERE row_place = 1 OR bytes_so_far <= {most}
        ORDER BY row_place"""  # noqa: S608 - of constants


async def read_page(
    session: Session,
    entity: type[Entity],
    page: str,
    large: Sequence[str],
    values: Mapping[str, Any],
    *,
    limit: int,
    max_bytes: int,
    without: Collection[str] = (),
) -> RowPage[Entity]:
    """The first rows of ``page``, a SELECT that has ``:limit`` for its limit.

    :param without: of the large columns what is not read; it is ``{}``.
    """
    statement = _statement(entity, page, tuple(large), tuple(sorted(without)))
    bounds = {"limit": limit, "max_bytes": max_bytes, "share": max_bytes // max(limit, 1)}
    found = (await session.execute(statement, {**values, **bounds})).all()
    for row in found:
        for name in without:
            set_committed_value(row[0], _attribute(entity, name), {})
    if not found:
        return RowPage((), 0, 0)
    return RowPage([row[0] for row in found], int(found[0][1]), int(found[0][2]))


@lru_cache(maxsize=256)
def _statement(
    entity: type[Base], page: str, large: tuple[str, ...], without: tuple[str, ...]
) -> Executable:
    """SQLAlchemy takes longer to put it together than Postgres to answer it."""
    columns = [one for one in inspect(entity).columns if one.name not in without]
    names = [one.name for one in columns]
    measured = [name for name in large if name not in without]
    sql = within(
        page, names, measured, most="CAST(:max_bytes AS bigint)", share="CAST(:share AS bigint)"
    )
    found, all_bytes = column("found", Integer), column("all_bytes", Numeric)
    return (
        select(entity, found, all_bytes)
        .options(*(defer(getattr(entity, _attribute(entity, name))) for name in without))
        .from_statement(text(sql).columns(*columns, found, all_bytes))
    )


def _attribute(entity: type[Base], column: str) -> str:
    # ``metadata`` is SQLAlchemy's own.
    return next(key for key, one in inspect(entity).columns.items() if one.name == column)
