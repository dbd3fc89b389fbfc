"""Copies of whole threads.

A copy holds its source from the first look until it is committed. So a deletion comes before the
copy, which then finds nothing, or after it. A purge looks again after its deletions, and finds a
copy that one of them has waited for.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values, scoped_statements
from headrace.checkpoints.copies import copy_thread
from headrace.checkpoints.writer import Writer
from headrace.db.pool import SharedPool
from headrace.db.receipts import Receipts
from headrace.db.transactions import locking_transaction
from headrace.errors import Conflict, ThreadBusy
from headrace.threads.rows import StoredThread, row_from

_LOCK_TIMEOUT_SECONDS = 5.0


class ThreadCopies:
    def __init__(self, pool: SharedPool, writer: Writer) -> None:
        self._writer = writer
        self._receipts = Receipts(pool)
        self._sql = scoped_statements("headrace.threads", "copies.sql")
        self._transaction = partial(
            locking_transaction, pool, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS, pipelined=False
        )

    async def copy(
        self,
        principal: Principal,
        thread_id: str,
        target: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> StoredThread:
        """A new thread with all checkpoints of another.

        :param target: the id of the copy; default: a new UUIDv4.
        :param metadata: what the copy has beside the metadata of the other.
        :raises Conflict: the caller may see no such thread.
        :raises ThreadBusy: a deletion locks the thread for too long.
        """
        values = {
            "source": thread_id,
            "target": target or str(uuid4()),
            "owner": principal.identity,
            "metadata": Jsonb(dict(metadata or {})),
            **scope_values(principal),
        }
        await self._writer.settled(thread_id)
        try:
            async with (
                self._receipts.kept(self._transaction()) as connection,
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                await cursor.execute(self._sql["copy_thread"], values)
                made = await cursor.fetchone()
                if made is None:
                    raise Conflict("Conflict")
                await copy_thread(cursor, thread_id, values["target"])
        except LockNotAvailable as error:
            raise ThreadBusy(f"Thread {thread_id} is being deleted; try again.") from error
        return row_from(made)
