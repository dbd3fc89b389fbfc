"""Copies of whole threads."""

from functools import partial
from uuid import uuid4

from psycopg.rows import dict_row

from headrace.auth.principal import Principal
from headrace.checkpoints.copies import copy_thread
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool
from headrace.db.statements import named_statements
from headrace.db.transactions import locking_transaction
from headrace.errors import Conflict
from headrace.threads.rows import StoredThread, row_from

_LOCK_TIMEOUT_SECONDS = 5.0


class ThreadCopies:
    def __init__(self, pool: SharedPool, writer: Writer) -> None:
        self._writer = writer
        self._sql = named_statements("headrace.threads", "copies.sql")
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pipelined=False
        )

    async def copy(
        self, principal: Principal, thread_id: str, target: str | None = None
    ) -> StoredThread:
        """A new thread with all checkpoints of another.

        :param target: the id of the copy; default: a new UUIDv4.
        :raises Conflict: the caller may see no such thread.
        """
        values = {
            "source": thread_id,
            "target": target or str(uuid4()),
            "tenant": principal.tenant,
            "owner": principal.identity,
        }
        await self._writer.settled(thread_id)
        async with (
            self._transaction() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(self._sql["copy_thread"], values)
            made = await cursor.fetchone()
            if made is None:
                raise Conflict("Conflict")
            await copy_thread(cursor, thread_id, values["target"])
        return row_from(made)
