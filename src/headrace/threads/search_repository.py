"""Lists of threads from the database; each query sees its caller's threads only."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from headrace.auth.principal import Principal
from headrace.db.pool import SharedPool
from headrace.db.row_sizes import RowPage, within
from headrace.db.statements import Statement
from headrace.db.transactions import locking_transaction
from headrace.threads.rows import COLUMNS, StoredThread, row_from
from headrace.threads.schemas import ThreadFilter
from headrace.threads.search_sql import (
    NEAR,
    Order,
    Wanted,
    count,
    near_page,
    page,
    planning,
    wanted,
)

_LOCK_TIMEOUT_SECONDS = 2.0

#: Columns that may be large: callers send their content, or graphs raise it.
_LARGE = ("metadata", "config", "interrupts", "error")


class ThreadSearchRepository:
    """
    :param timeout_seconds: for one query and the wait for a connection; 0: no timeout.
    :param statement_timeout_seconds: after this time Postgres cancels a query by itself. It ignores
        a cancel request while it compares JSON, but checks its own timeout between rows.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        timeout_seconds: float,
        statement_timeout_seconds: float = 10.0,
    ) -> None:
        self._pool = pool
        self._statement_timeout_seconds = statement_timeout_seconds
        self._timeout_seconds = timeout_seconds or None

    async def page(
        self,
        principal: Principal,
        which: ThreadFilter,
        order: Order,
        *,
        limit: int,
        offset: int,
        max_bytes: int,
        with_state: bool = False,
    ) -> RowPage[StoredThread]:
        """A page of threads in order: as many as ``max_bytes`` allow, at least one if any match.

        :param with_state: only threads that have had a run.
        """
        end = offset + limit
        deep = order.by == "created_at" and end > NEAR
        near = order.by == "created_at" and not deep
        what = wanted(principal, which, with_state=with_state, deep=deep)
        bounds = {"limit": limit, "offset": offset, "most": max_bytes}
        bounds["share"] = max_bytes // max(limit, 1)
        if near and (what.scattered or what.busy):
            looked = near_page(what, order, end=end)
            found = await self._page(looked, what, bounds, order, near=True)
            if found.found == limit:
                return found
        gathered = what.busy or (what.scattered and not deep)
        return await self._page(page(what, order, gathered=gathered), what, bounds, order, deep)

    async def count(self, principal: Principal, which: ThreadFilter) -> int:
        what = wanted(principal, which, deep=True)
        (row,) = await self._fetch(count(what), what, {}, self._planning(what, Order(), deep=True))
        return int(row["count"])

    async def _page(
        self,
        statement: str,
        what: Wanted,
        bounds: Mapping[str, int],
        order: Order,
        deep: bool = False,
        near: bool = False,
    ) -> RowPage[StoredThread]:
        told = self._planning(what, order, deep=deep, near=near)
        bounded = within(
            statement,
            COLUMNS,
            _LARGE,
            most="%(most)s::bigint",
            share="%(share)s::bigint",
        )
        rows = await self._fetch(bounded, what, bounds, told)
        if not rows:
            return RowPage((), 0, 0)
        found = [row_from(row) for row in rows]
        return RowPage(found, int(rows[0]["found"]), int(rows[0]["all_bytes"]))

    def _planning(self, what: Wanted, order: Order, *, deep: bool, near: bool = False) -> str:
        return planning(
            what,
            order,
            deep=deep,
            near=near,
            statement_timeout_ms=int(self._statement_timeout_seconds * 1000),
        )

    async def _fetch(
        self, statement: str, what: Wanted, more: Mapping[str, Any], told: str
    ) -> Sequence[dict[str, Any]]:
        values = {**what.values, **more}
        if "metadata" in values:
            values["metadata"] = Jsonb(values["metadata"])
        async with (
            asyncio.timeout(self._timeout_seconds),
            locking_transaction(
                self._pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, indexed=False
            ) as connection,
        ):
            await connection.execute(told.encode())
            async with connection.cursor(row_factory=dict_row) as cursor:
                # Never prepared: no plan is right for all filters.
                await cursor.execute(Statement(statement.encode()), values, prepare=False)
                return await cursor.fetchall()
