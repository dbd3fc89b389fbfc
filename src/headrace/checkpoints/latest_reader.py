"""Reads latest checkpoints, many threads in one query."""

from collections.abc import Sequence

import psycopg
from psycopg.rows import DictRow

from headrace.checkpoints.sized_reads_sql import LATEST
from headrace.db.arrays import Jsonb, Text
from headrace.db.planner import fixed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.shared_reads import SharedReads
from headrace.db.statements import Statement

#: A thread and a checkpoint namespace in UTF-8; and the channels whose values are wanted, as a JSON
#: array, or None for all channels.
Head = tuple[bytes, bytes, bytes | None]


class LatestReader(SharedReads[Head]):
    """
    :param latest: the statement that reads the latest checkpoints of ``thread_ids`` and
        ``namespaces``.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        acquire_timeout_seconds: float,
        timeout_seconds: float,
        max_batch: int,
        latest: Statement = LATEST,
    ) -> None:
        super().__init__(
            pool,
            acquire_timeout_seconds=acquire_timeout_seconds,
            timeout_seconds=timeout_seconds,
            max_batch=max_batch,
        )
        self._latest = latest

    async def latest(
        self, thread_id: str, ns: str, channels: bytes | None = None
    ) -> DictRow | None:
        """The row of the thread's latest checkpoint, as upstream's SELECT names its columns.

        :raises psycopg.DataError: an id with NUL.
        :raises UnicodeEncodeError: an id with half a surrogate pair.
        :raises psycopg.OperationalError, TimeoutError: as :meth:`row`.
        """
        # An id that Postgres cannot take fails here, so that other reads of the query do not fail.
        head = (thread_id.encode(), ns.encode(), channels)
        if b"\0" in head[0] or b"\0" in head[1]:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return await self.row(head)

    async def ask(self, connection: Connection, keys: Sequence[Head]) -> Sequence[DictRow]:
        return await fixed_rows(
            connection,
            self._latest,
            {
                "thread_ids": Text([thread_id for thread_id, _, _ in keys]),
                "namespaces": Text([ns for _, ns, _ in keys]),
                "channels": Jsonb([channels for _, _, channels in keys]),
            },
        )

    def is_found(self, row: DictRow) -> bool:
        return row["checkpoint_id"] is not None

    def size_of(self, row: DictRow | None) -> int:
        return size_of(row)


def size_of(row: DictRow | None) -> int:
    """The bytes of the values and writes that a row of upstream's SELECT carries."""
    if row is None:
        return 0
    size = sum(len(blob) for _, _, blob in row["channel_values"] or () if blob)
    return size + sum(len(write[3]) for write in row["pending_writes"] or ())
