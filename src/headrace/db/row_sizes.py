"""Pages of rows with a bound in bytes, for answers.

Postgres measures a page before it reads the large columns. So it does not fetch large values of
rows that are left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Executable, Integer, Numeric, column, inspect, select, text
from sqlalchemy.orm import defer
from sqlalchemy.orm.attributes import set_committed_value

from headrace.db.engine import Session
from headrace.db.table_base import Base

Row = TypeVar("Row")
Entity = TypeVar("Entity", bound=Base)

#: How many times larger than the stored value its JSON text may be: if Postgres has compressed it,
#: and if not. A control character takes one byte in the row and six in the text.
_INFLATED, _ESCAPED = 256, 6


@dataclass(frozen=True, slots=True)
class RowPage(Generic[Row]):
    """The first rows of a page, as many as the bytes allow. At least one, unless the page is empty.

    :ivar found: the number of rows of the whole page.
    :ivar bytes: the size of the whole page.
    """

    rows: Sequence[Row]
    found: int
    bytes: int

    @property
    def is_short(self) -> bool:
        return len(self.rows) < self.found


def size_of(columns: Sequence[str], row: str, *, share: str) -> str:
    """SQL for the size in bytes of one row's columns as JSON.

    Printing JSON costs as much as reading it. So only a value that might be larger than the row's
    share is printed. A smaller value counts with its stored size.

    :param share: SQL for the share of one row in bytes.
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
    """SQL for the first rows of ``page``, bounded in bytes.

    The rows have ``columns``, and ``found`` and ``all_bytes`` for a :class:`RowPage`.

    :param page: the SELECT of the page, with order and limit.
    :param large: the columns that may be large.
    :param most: SQL for the bytes that the page may have.
    :param share: SQL for the bytes that each row may have.
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
    """The first rows of ``page``, a SELECT with the parameter ``:limit``.

    :param without: large columns that are not read; their value is ``{}``.
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
    """Cached: SQLAlchemy takes longer to build the statement than Postgres to answer it."""
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
    # For the column ``metadata``, the attribute has another name: SQLAlchemy uses that name itself.
    return next(key for key, one in inspect(entity).columns.items() if one.name == column)
