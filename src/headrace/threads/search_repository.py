"""Lists of threads from the database; every query is bounded by the caller's tenant."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from headrace.auth.principal import Principal
from headrace.db.pool import SharedPool
from headrace.db.tables import ThreadRow
from headrace.db.transactions import locking_transaction
from headrace.threads.schemas import ThreadFilter
from headrace.threads.search_sql import (
    COLUMNS,
    NEAR,
    Order,
    Wanted,
    count,
    near_page,
    page,
    wanted,
)

_LOCK_TIMEOUT_SECONDS = 2.0

#: Attributes that cannot have their column's name.
_ATTRIBUTES = {"metadata": "metadata_"}


class ThreadSearchRepository:
    """
    :param timeout_seconds: of one query, the wait for a connection included; 0: none.
    """

    def __init__(self, pool: SharedPool, *, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds or None

    async def page(
        self,
        principal: Principal,
        which: ThreadFilter,
        order: Order,
        *,
        limit: int,
        offset: int,
        with_state: bool = False,
    ) -> list[ThreadRow]:
        """Threads in order.

        :param with_state: only those that have had a run.
        """
        what = wanted(principal, which, with_state=with_state)
        bounds = {"limit": limit, "offset": offset}
        look_near = order.by == "created_at" and offset + limit <= NEAR
        scattered = what.scattered or what.busy
        if scattered and look_near:
            rows = await self._rows(near_page(what, order), what, bounds)
            if len(rows) == limit:
                return rows
        gathered = what.busy or (what.scattered and (look_near or order.by != "created_at"))
        return await self._rows(page(what, order, gathered=gathered), what, bounds)

    async def count(self, principal: Principal, which: ThreadFilter) -> int:
        what = wanted(principal, which, with_state=False)
        (row,) = await self._fetch(count(what), what, {})
        return int(row["count"])

    async def _rows(self, statement: str, what: Wanted, more: Mapping[str, Any]) -> list[ThreadRow]:
        return [row_from(row) for row in await self._fetch(statement, what, more)]

    async def _fetch(
        self, statement: str, what: Wanted, more: Mapping[str, Any]
    ) -> Sequence[dict[str, Any]]:
        values = {**what.values, **more}
        if "metadata" in values:
            values["metadata"] = Jsonb(values["metadata"])
        async with (
            asyncio.timeout(self._timeout_seconds),
            locking_transaction(
                self._pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS
            ) as connection,
        ):
            # Compiling a deep page takes longer than reading it.
            await connection.execute("SELECT set_config('jit', 'off', true)")
            async with connection.cursor(row_factory=dict_row) as cursor:
                # Never prepared: one plan for all filters would be the wrong one for most.
                await cursor.execute(statement.encode(), values, prepare=False)
                return await cursor.fetchall()


def row_from(columns: Mapping[str, Any]) -> ThreadRow:
    """A row that belongs to no session; columns of a newer release are left out."""
    return ThreadRow(
        **{_ATTRIBUTES.get(name, name): columns[name] for name in COLUMNS if name in columns}
    )
