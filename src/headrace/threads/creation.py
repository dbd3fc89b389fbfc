"""New threads as operations of the group-commit writer.

Requests that come at the same time share one statement and one commit. Only threads whose ids the
server has made are created in this way. A thread with an id of the client may have to wait for
another transaction, and with it all that is committed together.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scoped_statements
from headrace.checkpoints.operations import Operation, Outcomes, StatementKind
from headrace.db.arrays import Boolean, Jsonb, Text
from headrace.db.jsonb import dump_jsonb
from headrace.db.pool import Connection
from headrace.threads.rows import StoredThread
from headrace.threads.schemas import ThreadTTL


class ThreadCreation(Operation):
    """Insert one thread. Its outcome is the row; None when the id is taken.

    After a flush without an answer, the id may be taken by this very operation.

    :param takes_strays: False: the id is also taken by checkpoints that no thread has.
    """

    __slots__ = ("metadata", "principal", "takes_strays", "ttl")

    def __init__(
        self,
        principal: Principal,
        thread_id: str,
        metadata: dict[str, Any],
        ttl: ThreadTTL | None,
        *,
        takes_strays: bool = True,
    ) -> None:
        self.principal = principal
        self.takes_strays = takes_strays
        self.metadata = dump_jsonb(metadata)
        self.ttl = ttl
        super().__init__(thread_id, None, size_bytes=len(self.metadata))

    def row(self, created_at: datetime, metadata: dict[str, Any] | None) -> StoredThread:
        """The row as it was stored."""
        ttl = self.ttl
        return StoredThread(
            self.thread_id,
            created_at,
            created_at,
            metadata or {},
            {},
            ttl_minutes=None if ttl is None else ttl.ttl,
            ttl_strategy=None if ttl is None else ttl.strategy,
        )


class _CreationKind(StatementKind):
    """Sends the creations of a batch as one statement."""

    order = 1
    is_one_statement = True

    def __init__(self) -> None:
        self._sql = scoped_statements("headrace.threads", "threads.sql")["insert_threads"]

    async def send(self, connection: Connection, operations: Sequence[ThreadCreation]) -> Outcomes:
        ttls = [item.ttl for item in operations]
        found = await connection.execute(
            self._sql,
            {
                "thread_ids": Text([item.thread_id.encode() for item in operations]),
                "tenants": Text([item.principal.tenant.encode() for item in operations]),
                "owners": Text([item.principal.identity.encode() for item in operations]),
                "metadata": Jsonb([item.metadata for item in operations]),
                "ttl_minutes": Text([None if ttl is None else b"%r" % ttl.ttl for ttl in ttls]),
                "ttl_strategies": Text(
                    [None if ttl is None else ttl.strategy.encode() for ttl in ttls]
                ),
                "takes_strays": Boolean([item.takes_strays for item in operations]),
            },
            prepare=True,
        )

        async def outcomes() -> list[Any]:
            made = {row[0]: row[1:] for row in await found.fetchall()}
            return [
                item.row(*made.pop(item.thread_id)) if item.thread_id in made else None
                for item in operations
            ]

        return outcomes


#: How creations are sent, also outside of a flush.
CREATIONS = _CreationKind()
ThreadCreation.kind = CREATIONS
