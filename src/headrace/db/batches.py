"""Deletes rows in batches: short transactions, with few locks each."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_connection
from headrace.db.pool import SharedPool


async def delete_in_batches(
    pool: SharedPool,
    query: bytes,
    values: Mapping[str, Any],
    *,
    limit: int,
    count: Callable[[int], None] = lambda rows: None,
) -> int:
    """Repeat a deletion until it finds fewer rows than it may delete; returns how many it deleted.

    :param query: deletes up to ``%(limit)s`` rows, by indexes. It is one transaction each time.
    :param count: a metric, called with the number of rows of each batch.
    :raises Unavailable: the database could not be reached. Finished batches stay deleted.
    """
    deleted, found = 0, limit
    while found == limit:
        with translated_faults():
            async with indexed_connection(pool) as connection:
                cursor = await connection.execute(query, {**values, "limit": limit})
        found = cursor.rowcount
        deleted += found
        count(found)
    return deleted
