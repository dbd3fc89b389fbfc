"""SQLAlchemy on the shared pool: it takes its connections there and never sees a URL.

``NullPool`` keeps no connection. A closed session gives its connection back to the shared pool
(``close_returns``), whose reset switches autocommit on again.
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

    :param schema: the schema of headrace's tables. An engine without it is for statements of users,
        which use the search_path of their role.
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
            # The map above does not change statements that are plain text.
            return qualified(text.encode(), schema).decode(), parameters

    @event.listens_for(engine.sync_engine, "close")
    def give_back_dead(connection: AdaptedConnection, _: Any) -> None:
        # psycopg's close() does nothing to a dead connection. The pool would count it as in use for
        # ever, and shrink by one each time.
        if connection.driver_connection.closed:
            connection.run_async(pool.putconn)

    return engine


class Sessions:
    """Transactions for repositories: one session, one commit, one timeout."""

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        self._make = async_sessionmaker(engine, expire_on_commit=False)
        self._timeout_seconds = timeout_seconds or None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session in a transaction. It commits at the end, and rolls back on any exception.

        The client measures the timeout, so it also covers a silent server. When it is over, psycopg
        sends the server a cancel request.

        :raises Unavailable: the database, or a free connection, was not there in time.
        """
        with translated_faults():
            async with asyncio.timeout(self._timeout_seconds), self._make.begin() as session:
                yield session
