"""Reads latest checkpoints, many threads in one query.

While a query is under way, new reads gather for the next one. A read on a dead connection is
repeated on a checked connection. An answer from a server in recovery is not used.
"""

import asyncio
from collections.abc import Sequence
from math import ceil

import psycopg
import structlog
from psycopg.rows import DictRow, dict_row

from headrace.checkpoints.sized_reads_sql import LATEST
from headrace.db.arrays import Jsonb, Text
from headrace.db.held_connection import HeldConnection
from headrace.db.planner import FIX_PLAN
from headrace.db.pool import WORN_BYTES, Connection, RecoveryError, SharedPool
from headrace.db.statements import Statement
from headrace.isolation import for_each_sound
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.reader")

#: A thread and a checkpoint namespace in UTF-8; and the channels whose values are wanted, as a JSON
#: array, or None for all channels.
Head = tuple[bytes, bytes, bytes | None]

#: Queries under way at once. More queries would only be smaller ones.
_QUERIES = 2

#: With fewer waiting reads than this, a second query would only make both smaller.
_READS_FOR_ANOTHER = 16

#: Errors of the server or the network, not of a row.
_SERVER_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)

#: A dead connection costs one try. After it, connections are checked first.
_TRIES = 3


class LatestReader:
    """One per process and statement; needs a running event loop.

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
        self._latest = latest
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._max_batch = max_batch
        self._tasks = Tasks()
        self._wanted: dict[Head, asyncio.Future[DictRow | None]] = {}
        self._queries = 0

    async def latest(
        self, thread_id: str, ns: str, channels: bytes | None = None
    ) -> DictRow | None:
        """The row of the thread's latest checkpoint, as upstream's SELECT names its columns.

        :raises psycopg.DataError: an id with NUL.
        :raises UnicodeEncodeError: an id with half a surrogate pair.
        :raises psycopg.OperationalError: the database cannot be reached.
        :raises TimeoutError: the database does not answer.
        """
        # An id that Postgres cannot take fails here, so that other reads of the query do not fail.
        head = (thread_id.encode(), ns.encode(), channels)
        if b"\0" in head[0] or b"\0" in head[1]:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        wanted = self._wanted.get(head)
        if wanted is None:
            wanted = self._wanted[head] = asyncio.get_running_loop().create_future()
            if self._queries < min(_QUERIES, ceil(len(self._wanted) / _READS_FOR_ANOTHER)):
                self._queries += 1
                self._tasks.start(self._query_until_empty(), name="read-checkpoints")
        return await asyncio.shield(wanted)

    async def stop(self) -> None:
        """Wait for the queries under way."""
        await self._tasks.join()

    async def _query_until_empty(self) -> None:
        held = HeldConnection(self._pool, timeout_seconds=self._acquire_timeout_seconds)
        try:
            while self._wanted:
                batch = dict(list(self._wanted.items())[: self._max_batch])
                for head in batch:
                    del self._wanted[head]
                await self._answer(batch, held)
                await held.share()
        except Exception as error:
            # A defect of headrace: no caller may wait for an answer that never comes.
            _log.exception("reads_given_up", reads=len(self._wanted))
            wanted, self._wanted = self._wanted, {}
            for waiting in wanted.values():
                waiting.set_exception(error)
                waiting.exception()
        finally:
            self._queries -= 1
            await held.give_back()

    async def _answer(
        self, batch: dict[Head, "asyncio.Future[DictRow | None]"], held: HeldConnection
    ) -> None:
        """Answer all reads. A row that cannot be read fails only the callers that wait for it."""

        async def answer(heads: Sequence[Head]) -> None:
            for head, row in zip(heads, await self._read(heads, held), strict=True):
                if not batch[head].done():
                    batch[head].set_result(row)

        try:
            failed = await for_each_sound(list(batch), answer, passing=_SERVER_FAULTS)
            if failed:
                _log.warning("read_failed", reads=len(failed), exc_info=failed[0][1])
        except Exception as error:
            _log.warning("read_failed", reads=len(batch), exc_info=error)
            failed = [(head, error) for head in batch]
        for head, fault in failed:
            if not batch[head].done():
                batch[head].set_exception(fault)
                # The caller may be gone.
                batch[head].exception()

    async def _read(self, heads: Sequence[Head], held: HeldConnection) -> list[DictRow | None]:
        for tries_left in reversed(range(_TRIES)):
            try:
                rows = await held.use(
                    lambda connection: _latest(connection, self._latest, heads),
                    seconds=self._timeout_seconds,
                )
            except _SERVER_FAULTS:
                await held.examine()
                if not tries_left:
                    raise
            except Exception:
                # The next query on this connection must not get the rest of this answer.
                await held.examine()
                raise
            else:
                if sum(map(size_of, rows)) > WORN_BYTES:
                    await held.wear_out()
                return rows
        raise AssertionError("unreachable")


def size_of(row: DictRow | None) -> int:
    """The bytes of the values and writes that a row of upstream's SELECT carries."""
    if row is None:
        return 0
    size = sum(len(blob) for _, _, blob in row["channel_values"] or () if blob)
    return size + sum(len(write[3]) for write in row["pending_writes"] or ())


async def _latest(
    connection: Connection, latest: Statement, heads: Sequence[Head]
) -> list[DictRow | None]:
    async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        async with connection.pipeline():
            await connection.execute(FIX_PLAN, prepare=True)
            await cursor.execute(
                latest,
                {
                    "thread_ids": Text([thread_id for thread_id, _, _ in heads]),
                    "namespaces": Text([ns for _, ns, _ in heads]),
                    "channels": Jsonb([channels for _, _, channels in heads]),
                },
                prepare=True,
            )
        rows = await cursor.fetchall()
    if rows and rows[0]["in_recovery"]:
        raise RecoveryError("the server is in recovery; its data may be old")
    found: list[DictRow | None] = [None] * len(heads)
    for row in rows:
        if row["checkpoint_id"] is not None:
            found[row["number"] - 1] = row
    return found
