"""Reads checkpoints for answers. The size of a checkpoint is known before its values are read.

One statement measures each checkpoint that it finds, and also reads the small ones. It measures by
the lengths that Postgres keeps beside large values. A large checkpoint is read later and alone,
when its answer has memory for it (``answer_memory.py``). Each of its values is in its own row.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import orjson
from langgraph.checkpoint.base import CheckpointTuple
from psycopg.rows import DictRow, dict_row

from headrace.checkpoints.answer_memory import Reading
from headrace.checkpoints.decoding import decoded
from headrace.checkpoints.latest_reader import size_of
from headrace.checkpoints.retry import READ_SECONDS, retried
from headrace.checkpoints.sized_reads_sql import (
    BLOBS,
    CHECKPOINT,
    WHERE_ID,
    WHERE_LATEST,
    WRITES,
    page,
)
from headrace.db.planner import indexed_connection
from headrace.db.pool import WORN_BYTES, SharedPool
from headrace.db.statements import Statement

T = TypeVar("T")

#: Bytes of small checkpoints that one statement reads together.
_PAGE_BYTES = 1024 * 1024


class Decoder(Protocol):
    """Makes a checkpoint from a row of LangGraph's SELECT, as savers do."""

    def _tuple_from(self, row: DictRow) -> CheckpointTuple | None: ...


class SizedReads:
    """One per saver. Each read is for the answer that is passed with it."""

    def __init__(self, pool: SharedPool, *, acquire_timeout_seconds: float) -> None:
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds

    async def page(
        self,
        decoder: Decoder,
        where: str,
        parameters: Sequence[Any],
        limit: int | None,
        reading: Reading,
    ) -> list[CheckpointTuple]:
        """The first checkpoints found, newest first, while they are small together.

        ``reading.rest`` has the others with their sizes.
        """
        settings = reading.memory.settings
        max_bytes = min(_PAGE_BYTES, settings.max_bytes, settings.max_state_bytes)
        if reading.admitted:
            # Admitted checkpoints may have got more writes since they were measured.
            max_bytes = _PAGE_BYTES + 2 * sum(size for _, size in reading.admitted)
        rows = await self._rows(page(where), (_text(reading), max_bytes, *parameters, limit))
        tuples: list[CheckpointTuple] = []
        reading.rest = []
        if not reading.admitted:
            await reading.admit(sum(row["bytes"] for row in rows if row["checkpoint"] is not None))
        for row in rows:
            found = None if row["checkpoint"] is None else await tuple_of(decoder, row)
            # LangGraph needs more rows for a very old checkpoint. Read it like a large one.
            if found is None or reading.rest:
                reading.rest.append((row["checkpoint_id"], row["bytes"]))
            else:
                tuples.append(found)
        return tuples

    async def one(
        self,
        decoder: Decoder,
        thread_id: str,
        ns: str,
        checkpoint_id: str | None,
        reading: Reading,
    ) -> CheckpointTuple | tuple[str, int] | None:
        """The checkpoint with the id, or the latest one; if it is large, its id and size in bytes.

        None if there is no checkpoint.
        """
        key = (thread_id, ns) if checkpoint_id is None else (thread_id, ns, checkpoint_id)
        where = WHERE_LATEST if checkpoint_id is None else WHERE_ID
        found = await self.page(decoder, where, key, 1, reading)
        if found:
            return found[0]
        rest, reading.rest = reading.rest, []
        return rest[0] if rest else None

    async def whole(
        self, decoder: Decoder, thread_id: str, ns: str, checkpoint_id: str, reading: Reading
    ) -> CheckpointTuple | None:
        """A checkpoint whose size was admitted.

        None if it is gone, or if it is so old that LangGraph needs more rows for it.
        """
        key = (thread_id, ns, checkpoint_id)
        row = await _retried(lambda: self._row(key, reading))
        return None if row is None else await tuple_of(decoder, row)

    async def _row(self, key: tuple[str, str, str], reading: Reading) -> DictRow | None:
        """One checkpoint, with the columns of LangGraph's SELECT."""
        async with indexed_connection(self._pool, self._acquire_timeout_seconds) as connection:
            async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                row = await (await cursor.execute(CHECKPOINT, key)).fetchone()
            if row is None:
                return None
            async with connection.cursor(binary=True) as plain:
                await plain.execute(BLOBS, (_text(reading), *key))
                row["channel_values"] = await plain.fetchall()
            async with connection.cursor(binary=True) as plain:
                await plain.execute(WRITES, (_text(reading), *key))
                row["pending_writes"] = await plain.fetchall()
            if size_of(row) > WORN_BYTES:
                self._pool.wear_out(connection)
        return row

    async def _rows(self, query: Statement, parameters: Sequence[Any]) -> list[DictRow]:
        return await _retried(lambda: self._rows_once(query, parameters))

    async def _rows_once(self, query: Statement, parameters: Sequence[Any]) -> list[DictRow]:
        async with (
            indexed_connection(self._pool, self._acquire_timeout_seconds) as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            await cursor.execute(query, parameters)
            return await cursor.fetchall()


async def tuple_of(decoder: Decoder, row: DictRow) -> CheckpointTuple | None:
    """The checkpoint of a row; None if it is so old that LangGraph needs more rows for it."""
    return await decoded(size_of(row), partial(decoder._tuple_from, row))


async def _retried(read: Callable[[], Awaitable[T]]) -> T:
    return await retried(read, seconds=READ_SECONDS, operation="read_for_answer")


def channels_of(reading: Reading) -> bytes | None:
    """The wanted channels as a JSON array for the statements."""
    return None if reading.channels is None else orjson.dumps(reading.channels)


def _text(reading: Reading) -> str | None:
    channels = channels_of(reading)
    return None if channels is None else channels.decode()
