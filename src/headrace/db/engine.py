"""SQLAlchemy on the shared pool: it takes its connections from the pool, and never sees a URL.

``NullPool`` keeps no connection. A closed session gives its connection back to the shared pool
(``close_returns``). There the reset switches autocommit on again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import AdaptedConnection, event, func, select
from sqlalchemy.dialects.postgresql.psycopg import _log_notices
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

from headrace.db.faults import translated_faults
from headrace.db.planner import use_indexes
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import qualified

Session = AsyncSession


def build_engine(pool: SharedPool, schema: str = "", *, indexed: bool = True) -> AsyncEngine:
    """An engine that takes all connections from ``pool``.

    :param schema: the schema of headrace's tables. Without it, the search_path of the role decides:
        for statements of users.
    :param indexed: each transaction begins with :func:`use_indexes`, but the first one, in which
        SQLAlchemy looks at the server. False for users: the planner is theirs.
    """

    async def take(**_: Any) -> Connection:
        connection = await pool.getconn()
        try:
            await connection.set_autocommit(False)
            # Here and not in the session: SQLAlchemy 2.0 may lose the connection of a session that
            # is cancelled in its first statement.
            if indexed:
                async with connection.pipeline():
                    await use_indexes(connection)
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
            # schema_translate_map does not change statements that are plain text.
            return qualified(text.encode(), schema).decode(), parameters

    @event.listens_for(engine.sync_engine, "connect")
    def forget_handler(connection: AdaptedConnection, _: Any) -> None:
        # For SQLAlchemy each session is a new connection, and it adds its handler of notices to
        # each. The connection is the pool's: it would have thousands of them.
        connection.driver_connection.remove_notice_handler(_log_notices)

    @event.listens_for(engine.sync_engine, "close")
    def give_back_dead(connection: AdaptedConnection, _: Any) -> None:
        # psycopg's close() does nothing for a dead connection. The pool would count it as in use
        # for ever, and have one connection less.
        if connection.driver_connection.closed:
            connection.run_async(pool.putconn)

    return engine


class Sessions:
    """Transactions for repositories: one session, one commit, one timeout.

    :param timeout_seconds: bound of a whole transaction; 0: none.
    """

    def __init__(self, engine: AsyncEngine, *, timeout_seconds: float) -> None:
        self._make = async_sessionmaker(engine, expire_on_commit=False)
        self._timeout_seconds = timeout_seconds or None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session in a transaction. It commits at the end, and rolls back on any exception.

        This process measures the timeout, so it also covers a silent server. After the timeout,
        psycopg sends a cancel request to the server.

        :raises Unavailable: the database did not answer, or no connection became free, in time.
        :raises InvalidRequest: the database cannot store a value.
        """
        with translated_faults():
            async with asyncio.timeout(self._timeout_seconds), self._make.begin() as session:
                yield session

    @asynccontextmanager
    async def listing(self, seconds: float) -> AsyncIterator[Session]:
        """As :meth:`begin`, for lists and counts: Postgres ends a statement after ``seconds``.

        Postgres ignores a cancel request while it compares JSON, but checks its own timeout between
        rows.
        """
        async with self.begin() as session:
            limit = f"{int(seconds * 1000)}ms"
            await session.execute(select(func.set_config("statement_timeout", limit, True)))
            yield session
