"""Tells the planner, for one transaction, to make plans that do not depend on statistics.

On a new or restored database, or after a bulk load, Postgres believes that tables are small, and
reads whole tables where an index would do. Growth alone does not correct it, only ANALYZE does. A
prepared statement may keep a plan that was made for a table of one page. See docs/adr/0021.

The settings end with the transaction. Behind a pooler the next transaction belongs to somebody
else, and on the shared pool it may be a statement of the user.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import statement
from headrace.db.traffic import CountedCursor

#: The calls that tell the planner to find rows by indexes, one by one, and to plan prepared
#: statements anew for the present sizes of their tables. To hash, merge or sort rows, Postgres
#: might read a whole index. A statement without parameters is never planned anew: do not prepare
#: it. Compiling (JIT) would take longer than to read some rows. If a table has no index for a
#: statement, the cost of the forbidden scan would make Postgres compile it.
INDEX_SETTINGS = (
    "set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),"
    " set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)"
)

#: The call with which Postgres ends a transaction that stands still. A process may be gone without
#: a word: its machine is lost, or the network drops what it sends. Then nobody ends its
#: transaction, and what it has locked would stay locked for hours, until TCP finds out.
STANDSTILL_SETTING = "set_config('idle_in_transaction_session_timeout', '10s', true)"

_USE_INDEXES = statement(f"SELECT {STANDSTILL_SETTING}, {INDEX_SETTINGS}")

#: For a statement with one good plan: each step is one way into one index, in its order. Then the
#: plan is made once, for any values and sizes.
FIX_PLAN = statement(
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', true),"
    " set_config('jit', 'off', true), "
    + ", ".join(
        f"set_config('enable_{way}', 'off', true)"
        for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
    )
)


async def use_indexes(connection: Connection) -> None:
    """Let the statements that follow in this transaction use indexes, and Postgres end it if it
    stands still.
    """
    await connection.execute(_USE_INDEXES, prepare=True)


@asynccontextmanager
async def indexed_connection(
    pool: SharedPool, timeout: float | None = None
) -> AsyncIterator[Connection]:
    """A connection for statements that use indexes. All of the block is one transaction.

    It ends with the block. The statements are sent together, up to the first result that is
    fetched.

    :param timeout: seconds to wait for a connection; None: the pool's own timeout.
    """
    async with pool.connection(timeout) as connection, connection.pipeline():
        await use_indexes(connection)
        yield connection


async def indexed_rows(
    pool: SharedPool, query: bytes, values: Mapping[str, Any] | Sequence[Any]
) -> list[Any]:
    """The rows of one statement that uses indexes, in one round trip."""
    async with pool.connection() as connection:
        async with connection.pipeline():
            await use_indexes(connection)
            # Without parameters, Postgres would keep the first plan.
            cursor = await connection.execute(query, values, prepare=None if values else False)
        return await cursor.fetchall()


async def fixed_rows(
    connection: Connection, query: bytes, values: Mapping[str, Any]
) -> list[DictRow]:
    """The rows of one statement with one good plan (:data:`FIX_PLAN`), in one round trip."""
    async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        async with connection.pipeline():
            await connection.execute(FIX_PLAN, prepare=True)
            await cursor.execute(query, values, prepare=True)
        return await cursor.fetchall()


class _LangGraphCursor(CountedCursor[DictRow]):
    """A cursor for statements of LangGraph, which are plain text. They use indexes."""

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        query, connection = _of_langgraph(query), self.connection
        if connection.pgconn.pipeline_status:
            # The code that has opened the pipeline has told the planner.
            return await super().execute(query, *args, **kwargs)
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            # A transaction of LangGraph begins with its isolation level.
            return await super().execute(query, *args, **{**kwargs, "prepare": False})
        async with connection.pipeline():
            await use_indexes(connection)
            await super().execute(query, *args, **kwargs)
        return self

    async def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        await super().executemany(_of_langgraph(query), *args, **kwargs)


def _of_langgraph(query: Any) -> Any:
    return statement(query) if isinstance(query, str) else query


def langgraph_cursor(connection: AsyncConnection[Any]) -> AsyncCursor[DictRow]:
    """A cursor for LangGraph's savers and stores, in the connection's schema."""
    usual = connection.cursor_factory
    connection.cursor_factory = _LangGraphCursor
    try:
        return connection.cursor(binary=True, row_factory=dict_row)
    finally:
        connection.cursor_factory = usual
