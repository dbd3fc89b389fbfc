"""Erases rows of one table, a thousand in a transaction, in the order of the primary key.

Each row is read once, however many there are. Rows that somebody else has locked are left for the
next pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.db.pool import Connection
from headrace.db.statements import schema_of, statement

_BATCH = 1000
_LOCK_TIMEOUT = "2s"

_KEYS = """
SELECT given.name, array_agg(attname::text ORDER BY place),
  array_agg(format_type(atttypid, NULL) ORDER BY place)
FROM unnest(%(names)s::text[], %(places)s::text[]) AS given (name, table_name)
JOIN pg_index ON indrelid = to_regclass(given.table_name) AND indisprimary
CROSS JOIN LATERAL unnest(indkey::int2[]) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number
GROUP BY given.name
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there, with the columns of its primary key and their types."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def key(self) -> str:
        return ", ".join(f'"{column}"' for column in self.columns)


async def tables_among(connection: Connection, names: list[str]) -> dict[str, Table]:
    """Those of ``names`` that the database has, in this order."""
    schema = schema_of(connection)
    prefix = f'"{schema}".' if schema else ""
    values = {"names": names, "places": [f"{prefix}{name}" for name in names]}
    cursor = await connection.execute(_KEYS, values)
    found = {name: (columns, types) for name, columns, types in await cursor.fetchall()}
    return {name: Table(name, *map(tuple, found[name])) for name in names if name in found}


async def count_rows(
    connection: Connection, table: Table, condition: str, values: Mapping[str, Any]
) -> int:
    """How many rows the condition finds."""
    text = f"SELECT count(*) FROM {table.name} WHERE {condition}"  # noqa: S608 - of constants
    row = await (await connection.execute(statement(text), values)).fetchone()
    assert row is not None
    return int(row[0])


async def erase_rows(
    connection: Connection,
    table: Table,
    condition: str,
    values: Mapping[str, Any],
    *,
    instead: str = "",
) -> int:
    """Delete the rows that the condition finds; returns how many.

    :param instead: what an UPDATE sets, for rows that are kept without what names their owner.
    """
    erased, after = 0, None
    change = f"UPDATE {table.name} SET {instead}" if instead else f"DELETE FROM {table.name}"  # noqa: S608
    while True:
        async with connection.transaction():
            await connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,), prepare=False
            )
            cursor = await connection.execute(
                statement(_page(table, condition, begun=after is not None)),
                {**values, "limit": _BATCH, **_numbered(after)},
            )
            found = await cursor.fetchall()
            places = [row[0] for row in found]
            await connection.execute(
                statement(f"{change} WHERE ctid = ANY (%(places)s::tid[])"),
                {**values, "places": places},
            )
        if not found:
            return erased
        erased += len(found)
        after = found[-1][1:]


def _page(table: Table, condition: str, *, begun: bool) -> str:
    marks = ", ".join(f"%(after_{number})s::{type_}" for number, type_ in enumerate(table.types))
    beyond = f"AND ({table.key}) > ({marks})" if begun else ""
    return (
        f"SELECT ctid::text, {table.key} FROM {table.name} WHERE ({condition}) {beyond}"  # noqa: S608
        f" ORDER BY {table.key} LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
    )


def _numbered(after: tuple[Any, ...] | None) -> dict[str, Any]:
    return {f"after_{number}": value for number, value in enumerate(after or ())}
