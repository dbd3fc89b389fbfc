"""A saver inside a transaction of its caller. Its writes are committed with that transaction, or
not at all.

It serves changes of a thread outside of the thread's runs. The transaction locks the row of the
thread, so no run writes meanwhile. No fence is needed: a transaction that fails leaves nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from headrace.checkpoints.metadata import stored_config
from headrace.checkpoints.upstream import PooledSaver
from headrace.checkpoints.write_size import MAX_CHECKPOINT_BYTES
from headrace.db.planner import langgraph_cursor
from headrace.db.pool import EXAMINE_SECONDS, Connection, SharedPool
from headrace.lifecycle import Signal


class ChangeEnded(Exception):
    """The change has ended: its saver neither reads nor writes any more."""


class TransactionSaver(PooledSaver):
    """Upstream's saver on the connection of an open transaction; it sees its own writes."""

    def __init__(
        self,
        pool: SharedPool,
        connection: Connection,
        serde: SerializerProtocol,
        *,
        max_checkpoint_bytes: int = MAX_CHECKPOINT_BYTES,
    ) -> None:
        super().__init__(pool, acquire_timeout_seconds=0, max_checkpoint_bytes=max_checkpoint_bytes)
        self.serde = serde
        self._connection = connection
        self._users = 0
        self._idle = Signal()
        self._ended = False

    async def end(self) -> None:
        """Let no task use the connection any more. Await this before you give the connection back.

        When a graph is cut off, its tasks may still read and write. By then another caller may have
        the connection: the tasks would read its rows and write into its transaction.
        """
        self._ended = True
        try:
            if self._users:
                await self._idle.wait(EXAMINE_SECONDS)
        finally:
            if self._users:
                self._connection.pgconn.finish()

    def _stored(self, config: RunnableConfig) -> RunnableConfig:
        return stored_config(config, ids_only=True)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        if self._ended:
            raise ChangeEnded
        self._users += 1
        self._idle.clear()
        try:
            async with langgraph_cursor(self._connection) as cursor:
                yield cursor
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()
