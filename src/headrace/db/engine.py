"""SQLAlchemy on the shared pool: it takes connections from there and never sees a URL.

``NullPool`` keeps no connection of its own; a closed session gives its connection back
(``close_returns``), and the pool's reset puts it into autocommit again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import AdaptedConnection, event
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

from headrace.db.faults import translated_faults
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import qualified

Session = AsyncSession


def build_engine(pool: SharedPool, schema: str = "") -> AsyncEngine:
    """An engine whose every connection comes from ``pool``.

    :param schema: where headrace's tables are, for statements of its own; what users send with an
        engine without it means the tables of their role's path.
    """

    async def take(**_: Any) -> Connection:
        connection = await pool.getconn()
        try:
            await connection.set_autocommit(False)
        except BaseException:
            await pool.putconn(connection)
            raise
        return connection

    options = {"schema_translate_map": {None: schema}} if schema else {}
    engine = create_async_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        async_creator=take,
        execution_options=options,
    )

    if schema:

        @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
        def qualify(
            _connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any
        ) -> tuple[str, Any]:
            # The map above does not reach statements that are written as text.
            return qualified(text.encode(), schema).decode(), parameters

    @event.listens_for(engine.sync_engine, "close")
    def give_back_dead(connection: AdaptedConnection, _: Any) -> None:
        # psycopg's close() does nothing to a dead connection: the pool would count it as lent for
        # ever, and be smaller by one after each.
        if connection.driver_connection.closed:
            connection.run_async(pool.putconn)

    return engine


class Sessions:
    """Transactions for repositories: one session, one commit, one bound on its time."""

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        self._make = async_sessionmaker(engine, expire_on_commit=False)
        self._timeout_seconds = timeout_seconds or None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session in a transaction; commits at the end, rolls back on any exception.

        The bound holds on the client, where it also covers a peer that went silent; psycopg sends
        the server a cancel request when it strikes.

        :raises Unavailable: when the database or a connection cannot be had in time.
        """
        with translated_faults():
            async with asyncio.timeout(self._timeout_seconds), self._make.begin() as session:
                yield session
