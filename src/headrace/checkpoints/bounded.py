"""Checkpoints for answers: their size is known before they are read, and small ones come at once.

One statement reads the size of each checkpoint it finds, from the lengths that Postgres keeps
beside large values, and with it those that are small. A large one is read afterwards, alone, once
its answer has the memory for it (``answer_memory.py``), each value in a row of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from langgraph.checkpoint.base import CheckpointTuple
from psycopg.rows import DictRow, dict_row

from headrace.checkpoints.answer_memory import FREE_BYTES, Reading
from headrace.checkpoints.reader import size_of
from headrace.db.pool import WORN_BYTES, SharedPool

#: What one statement reads of small checkpoints altogether.
_PAGE_BYTES = 1024 * 1024

#: Up to this stored size what is compressed cannot be large either.
_NEVER_LARGE = 4096

# Of a checkpoint ``c``. What JSON comes to is not kept anywhere: only what is stored in more than
# a few bytes is written out for it. Where a channel is stored step by step, its steps since it was
# stored whole count, and the largest whole one.
_SIZE = f"""
  SELECT
    CASE WHEN pg_column_size(c.checkpoint) + pg_column_size(c.metadata) <= {_NEVER_LARGE}
      THEN pg_column_size(c.checkpoint) + pg_column_size(c.metadata)
      ELSE octet_length(c.checkpoint::text) + octet_length(c.metadata::text) END
    + coalesce((
      SELECT sum(octet_length(bl.blob)) FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v
      JOIN checkpoint_blobs bl ON bl.thread_id = c.thread_id
        AND bl.checkpoint_ns = c.checkpoint_ns AND bl.channel = v.key AND bl.version = v.value
      WHERE %(wanted bl)s
    ), 0)
    + coalesce((
      SELECT sum(octet_length(cw.blob)) FROM checkpoint_writes cw
      WHERE cw.thread_id = c.thread_id AND cw.checkpoint_ns = c.checkpoint_ns
        AND cw.checkpoint_id = c.checkpoint_id AND %(wanted cw)s
    ), 0)
    + CASE WHEN c.metadata ? 'counters_since_delta_snapshot' THEN coalesce((
      SELECT sum(octet_length(cw.blob)) FROM (
        SELECT checkpoint_id FROM checkpoints a
        WHERE a.thread_id = c.thread_id AND a.checkpoint_ns = c.checkpoint_ns
          AND a.checkpoint_id < c.checkpoint_id
        ORDER BY a.checkpoint_id DESC
        LIMIT (
          SELECT max((counted.value ->> 1)::int) + 1
          FROM jsonb_each(c.metadata -> 'counters_since_delta_snapshot') AS counted
        )
      ) AS a JOIN checkpoint_writes cw ON cw.thread_id = c.thread_id
        AND cw.checkpoint_ns = c.checkpoint_ns AND cw.checkpoint_id = a.checkpoint_id
        AND c.metadata -> 'counters_since_delta_snapshot' ? cw.channel AND %(wanted cw)s
    ), 0) + coalesce((
      SELECT max(octet_length(bl.blob)) FROM checkpoint_blobs bl
      WHERE bl.thread_id = c.thread_id AND bl.checkpoint_ns = c.checkpoint_ns
        AND c.metadata -> 'counters_since_delta_snapshot' ? bl.channel AND %(wanted bl)s
    ), 0) ELSE 0 END AS bytes
"""  # noqa: S608 - of constants

# The columns of upstream's SELECT, as far as the checkpoint is small.
_COLUMNS = """
  c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.bytes,
  CASE WHEN c.small THEN c.checkpoint END AS checkpoint,
  CASE WHEN c.small THEN c.metadata END AS metadata,
  CASE WHEN c.small THEN (
    SELECT array_agg(array[bl.channel::bytea, bl.type::bytea, bl.blob])
    FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v
    JOIN checkpoint_blobs bl ON bl.thread_id = c.thread_id
      AND bl.checkpoint_ns = c.checkpoint_ns AND bl.channel = v.key AND bl.version = v.value
    WHERE %(wanted bl)s
  ) END AS channel_values,
  CASE WHEN c.small THEN (
    SELECT array_agg(array[
      cw.task_id::bytea, cw.channel::bytea, cw.type::bytea, cw.blob,
      convert_to(cw.task_path, 'UTF8'), cw.idx::text::bytea])
    FROM checkpoint_writes cw
    WHERE cw.thread_id = c.thread_id AND cw.checkpoint_ns = c.checkpoint_ns
      AND cw.checkpoint_id = c.checkpoint_id AND %(wanted cw)s
  ) END AS pending_writes
"""

# LangGraph's own channels start like that; so do those of graphs whose state is one value.
_WANTED = "({0} IS NULL OR {0} ? {1}.channel OR {1}.channel ~ '^(__|branch:|start:)')"


def _told(text: str, channels: str) -> str:
    for table in ("bl", "cw"):
        text = text.replace(f"%(wanted {table})s", _WANTED.format(channels, table))
    return text


#: As ``reader.LATEST``.
LATEST_SMALL = f"""
SELECT wanted.number, pg_is_in_recovery() AS in_recovery, latest.*
FROM unnest(%(thread_ids)s::text[], %(namespaces)s::text[], %(channels)s::jsonb[])
  WITH ORDINALITY AS wanted (thread_id, ns, channels, number)
LEFT JOIN LATERAL (
  SELECT {_told(_COLUMNS, "wanted.channels")}
  FROM (
    SELECT c.*, size.bytes, size.bytes <= {FREE_BYTES} AS small
    FROM (
      SELECT * FROM checkpoints
      WHERE checkpoints.thread_id = wanted.thread_id AND checkpoints.checkpoint_ns = wanted.ns
      ORDER BY checkpoint_id DESC
      LIMIT 1
    ) AS c CROSS JOIN LATERAL ({_told(_SIZE, "wanted.channels")}) AS size
  ) AS c
) AS latest ON true
"""  # noqa: S608 - of constants

_PAGE = f"""
SELECT {_told(_COLUMNS, "asked.channels")}
FROM (SELECT %s::jsonb AS channels, %s::bigint AS fits) AS asked
CROSS JOIN LATERAL (
  SELECT c.*, c.running <= asked.fits AS small
  FROM (
    SELECT c.*, size.bytes, sum(size.bytes) OVER (ORDER BY c.checkpoint_id DESC) AS running
    FROM (
      SELECT * FROM checkpoints {{where}} ORDER BY checkpoint_id DESC LIMIT %s
    ) AS c CROSS JOIN LATERAL ({_told(_SIZE, "asked.channels")}) AS size
  ) AS c
) AS c
ORDER BY c.checkpoint_id DESC
"""  # noqa: S608 - of constants

_WHERE_ID = "WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s"
_WHERE_LATEST = "WHERE thread_id = %s AND checkpoint_ns = %s"

_CHECKPOINT = f"""
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
FROM checkpoints {_WHERE_ID}
"""  # noqa: S608 - of constants
_BLOBS = f"""
SELECT bl.channel::bytea, bl.type::bytea, bl.blob
FROM (SELECT %s::jsonb AS channels) AS asked, checkpoints c
CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') v
JOIN checkpoint_blobs bl ON bl.thread_id = c.thread_id
  AND bl.checkpoint_ns = c.checkpoint_ns AND bl.channel = v.key AND bl.version = v.value
WHERE c.thread_id = %s AND c.checkpoint_ns = %s AND c.checkpoint_id = %s
  AND {_WANTED.format("asked.channels", "bl")}
"""  # noqa: S608 - of constants
_WRITES = f"""
SELECT cw.task_id::bytea, cw.channel::bytea, cw.type::bytea, cw.blob,
  convert_to(cw.task_path, 'UTF8'), cw.idx::text::bytea
FROM (SELECT %s::jsonb AS channels) AS asked, checkpoint_writes cw
WHERE cw.thread_id = %s AND cw.checkpoint_ns = %s AND cw.checkpoint_id = %s
  AND {_WANTED.format("asked.channels", "cw")}
"""  # noqa: S608 - of constants


class Decoder(Protocol):
    """What a saver makes of a row of upstream's SELECT."""

    def _tuple_from(self, row: DictRow) -> CheckpointTuple | None: ...


class BoundedReads:
    """One per saver; a read belongs to the answer that is given with it."""

    def __init__(
        self, pool: SharedPool, decoder: Decoder, *, acquire_timeout_seconds: float
    ) -> None:
        self._pool = pool
        self._decoder = decoder
        self._acquire_timeout_seconds = acquire_timeout_seconds

    async def page(
        self, where: str, parameters: Sequence[Any], limit: int | None, reading: Reading
    ) -> list[CheckpointTuple]:
        """The first of the checkpoints found, newest first, as far as they are small together.

        ``reading.rest`` has the others, with their sizes.
        """
        settings = reading.memory.settings
        fits = min(_PAGE_BYTES, settings.max_bytes, settings.max_state_bytes)
        if reading.admitted:
            # Some of them may have got more writes since.
            fits = _PAGE_BYTES + 2 * sum(size for _, size in reading.admitted)
        rows = await self._rows(
            _PAGE.format(where=where), (_text(reading), fits, *parameters, limit)
        )
        tuples: list[CheckpointTuple] = []
        reading.rest = []
        if not reading.admitted:
            await reading.admit(sum(row["bytes"] for row in rows if row["checkpoint"] is not None))
        for row in rows:
            found = None if row["checkpoint"] is None else self._decoder._tuple_from(row)
            # One so old that more belongs to it is read as large ones are.
            if found is None or reading.rest:
                reading.rest.append((row["checkpoint_id"], row["bytes"]))
            else:
                tuples.append(found)
        return tuples

    async def one(
        self, thread_id: str, ns: str, checkpoint_id: str | None, reading: Reading
    ) -> CheckpointTuple | tuple[str, int] | None:
        """The checkpoint, or its id and size where it is large; the latest without an id."""
        key = (thread_id, ns) if checkpoint_id is None else (thread_id, ns, checkpoint_id)
        where = _WHERE_LATEST if checkpoint_id is None else _WHERE_ID
        found = await self.page(where, key, 1, reading)
        if found:
            return found[0]
        rest, reading.rest = reading.rest, []
        return rest[0] if rest else None

    async def whole(
        self, thread_id: str, ns: str, checkpoint_id: str, reading: Reading
    ) -> CheckpointTuple | None:
        """A checkpoint whose size was admitted; None where it is so old that more belongs to it,
        or gone."""
        key = (thread_id, ns, checkpoint_id)
        async with self._pool.connection(self._acquire_timeout_seconds) as connection:
            async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                row = await (await cursor.execute(_CHECKPOINT, key)).fetchone()
            if row is None:
                return None
            async with connection.cursor(binary=True) as plain:
                await plain.execute(_BLOBS, (_text(reading), *key))
                row["channel_values"] = await plain.fetchall()
            async with connection.cursor(binary=True) as plain:
                await plain.execute(_WRITES, (_text(reading), *key))
                row["pending_writes"] = await plain.fetchall()
            if size_of(row) > WORN_BYTES:
                self._pool.wear_out(connection)
        return self._decoder._tuple_from(row)

    async def _rows(self, statement: str, parameters: Sequence[Any]) -> list[DictRow]:
        async with (
            self._pool.connection(self._acquire_timeout_seconds) as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            await cursor.execute(statement.encode(), parameters)
            return await cursor.fetchall()


def channels_of(reading: Reading) -> bytes | None:
    """A JSON array, as the statements take it."""
    return None if reading.channels is None else orjson.dumps(reading.channels)


def _text(reading: Reading) -> str | None:
    channels = channels_of(reading)
    return None if channels is None else channels.decode()
