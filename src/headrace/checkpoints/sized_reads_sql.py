"""Statements that read checkpoints: latest ones, sizes, and the columns of small ones.

A JSON array names the channels that are read; null means all of them.
"""

from headrace.checkpoints.answer_memory import FREE_BYTES
from headrace.db.statements import Statement, statement

#: A value of at most so many stored bytes is not large, even if it is compressed.
_NEVER_LARGE = 4096

# The value of channel ``v`` of checkpoint ``c``. With LATERAL, LIMIT and the order, the only way to
# it is one step in the primary key, whatever the planner believes about the table. LangGraph's
# index on thread_id would lead to all versions of all channels of the thread.
_BLOB = """CROSS JOIN LATERAL (
      SELECT bl.channel, bl.type, bl.blob FROM checkpoint_blobs bl
      WHERE bl.thread_id = c.thread_id AND bl.checkpoint_ns = c.checkpoint_ns
        AND bl.channel = v.key AND bl.version >= v.value AND bl.version <= v.value
      ORDER BY bl.version LIMIT 1
    ) AS bl"""

# The pending writes of checkpoint ``c``, in the order of the primary key for the same reason.
_WRITES_OF = """(
      SELECT * FROM checkpoint_writes cw
      WHERE cw.thread_id = c.thread_id AND cw.checkpoint_ns = c.checkpoint_ns
        AND cw.checkpoint_id = {id}
      ORDER BY cw.task_id, cw.idx OFFSET 0
    ) AS cw"""
_WRITES = _WRITES_OF.format(id="c.checkpoint_id")

# The size of checkpoint ``c``. Postgres keeps no size of JSON text: JSON above _NEVER_LARGE is
# printed to measure it. A channel that is stored step by step counts the steps since it was last
# stored whole, and its largest whole value.
_SIZE = f"""
  SELECT
    CASE WHEN pg_column_size(c.checkpoint) + pg_column_size(c.metadata) <= {_NEVER_LARGE}
      THEN pg_column_size(c.checkpoint) + pg_column_size(c.metadata)
      ELSE octet_length(c.checkpoint::text) + octet_length(c.metadata::text) END
    + coalesce((
      SELECT sum(octet_length(bl.blob))
      FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v {_BLOB}
      WHERE %(wanted bl)s
    ), 0)
    + coalesce((
      SELECT sum(octet_length(cw.blob)) FROM {_WRITES} WHERE %(wanted cw)s
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
      ) AS a CROSS JOIN LATERAL {_WRITES_OF.format(id="a.checkpoint_id")}
      WHERE c.metadata -> 'counters_since_delta_snapshot' ? cw.channel AND %(wanted cw)s
    ), 0) + coalesce((
      SELECT max(octet_length(bl.blob))
      FROM jsonb_object_keys(c.metadata -> 'counters_since_delta_snapshot') AS counted (channel)
      CROSS JOIN LATERAL (
        SELECT bl.channel, bl.blob FROM checkpoint_blobs bl
        WHERE bl.thread_id = c.thread_id AND bl.checkpoint_ns = c.checkpoint_ns
          AND bl.channel = counted.channel
        ORDER BY bl.version OFFSET 0
      ) AS bl
      WHERE %(wanted bl)s
    ), 0) ELSE 0 END AS bytes
"""  # noqa: S608 - of constants

_BLOBS_READ = "array_agg(array[bl.channel::bytea, bl.type::bytea, bl.blob])"
_WRITES_READ = """array_agg(array[
      cw.task_id::bytea, cw.channel::bytea, cw.type::bytea, cw.blob,
      convert_to(cw.task_path, 'UTF8'), cw.idx::text::bytea])"""

# The columns of LangGraph's SELECT. For a large checkpoint, the large columns are NULL.
_COLUMNS = f"""
  c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.bytes,
  CASE WHEN c.small THEN c.checkpoint END AS checkpoint,
  CASE WHEN c.small THEN c.metadata END AS metadata,
  CASE WHEN c.small THEN (
    SELECT {_BLOBS_READ}
    FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v {_BLOB}
    WHERE %(wanted bl)s
  ) END AS channel_values,
  CASE WHEN c.small THEN (
    SELECT {_WRITES_READ} FROM {_WRITES} WHERE %(wanted cw)s
  ) END AS pending_writes
"""  # noqa: S608 - of constants

# The names of LangGraph's own channels begin like this. So does the channel of a graph whose state
# is one value.
_WANTED = "({0} IS NULL OR {0} ? {1}.channel OR {1}.channel ~ '^(__|branch:|start:)')"


def _told(text: str, channels: str) -> str:
    for table in ("bl", "cw"):
        text = text.replace(f"%(wanted {table})s", _WANTED.format(channels, table))
    return text


_LATEST = """
      SELECT * FROM checkpoints
      WHERE checkpoints.thread_id = wanted.thread_id AND checkpoints.checkpoint_ns = wanted.ns
      ORDER BY checkpoint_id DESC
      LIMIT 1
"""

#: The latest checkpoint of each thread, with the columns of LangGraph's SELECT.
LATEST = statement(f"""
SELECT wanted.number, pg_is_in_recovery() AS in_recovery, latest.*
FROM unnest(%(thread_ids)s::text[], %(namespaces)s::text[])
  WITH ORDINALITY AS wanted (thread_id, ns, number)
LEFT JOIN LATERAL (
  SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint,
    c.metadata,
    (
      SELECT {_BLOBS_READ}
      FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v {_BLOB}
    ) AS channel_values,
    (SELECT {_WRITES_READ} FROM {_WRITES}) AS pending_writes
  FROM ({_LATEST}) AS c
) AS latest ON true
""")  # noqa: S608 - of constants

#: As :data:`LATEST`, but only ids and size of a large checkpoint.
LATEST_SMALL = statement(f"""
SELECT wanted.number, pg_is_in_recovery() AS in_recovery, latest.*
FROM unnest(%(thread_ids)s::text[], %(namespaces)s::text[], %(channels)s::jsonb[])
  WITH ORDINALITY AS wanted (thread_id, ns, channels, number)
LEFT JOIN LATERAL (
  SELECT {_told(_COLUMNS, "wanted.channels")}
  FROM (
    SELECT c.*, size.bytes, size.bytes <= {FREE_BYTES} AS small
    FROM ({_LATEST}) AS c CROSS JOIN LATERAL ({_told(_SIZE, "wanted.channels")} OFFSET 0) AS size
    OFFSET 0
  ) AS c
) AS latest ON true
""")  # noqa: S608 - of constants

_PAGE = f"""
SELECT {_told(_COLUMNS, "asked.channels")}
FROM (SELECT %s::jsonb AS channels, %s::bigint AS max_bytes) AS asked
CROSS JOIN LATERAL (
  SELECT c.*, c.running <= asked.max_bytes AS small
  FROM (
    SELECT c.*, size.bytes, sum(size.bytes) OVER (ORDER BY c.checkpoint_id DESC) AS running
    FROM (
      SELECT * FROM checkpoints {{where}} ORDER BY checkpoint_id DESC LIMIT %s
    ) AS c CROSS JOIN LATERAL ({_told(_SIZE, "asked.channels")} OFFSET 0) AS size
  ) AS c
) AS c
ORDER BY c.checkpoint_id DESC
"""  # noqa: S608 - of constants

WHERE_ID = "WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s"
WHERE_LATEST = "WHERE thread_id = %s AND checkpoint_ns = %s"

CHECKPOINT = statement(f"""
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
FROM checkpoints {WHERE_ID}
""")  # noqa: S608 - of constants
BLOBS = statement(f"""
SELECT bl.channel::bytea, bl.type::bytea, bl.blob
FROM checkpoints c CROSS JOIN (SELECT %s::jsonb AS channels) AS asked
CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') v {_BLOB}
WHERE c.thread_id = %s AND c.checkpoint_ns = %s AND c.checkpoint_id = %s
  AND {_WANTED.format("asked.channels", "bl")}
""")  # noqa: S608 - of constants
WRITES = statement(f"""
SELECT cw.task_id::bytea, cw.channel::bytea, cw.type::bytea, cw.blob,
  convert_to(cw.task_path, 'UTF8'), cw.idx::text::bytea
FROM (SELECT %s::jsonb AS channels) AS asked, checkpoint_writes cw
WHERE cw.thread_id = %s AND cw.checkpoint_ns = %s AND cw.checkpoint_id = %s
  AND {_WANTED.format("asked.channels", "cw")}
""")  # noqa: S608 - of constants


def page(where: str) -> Statement:
    """The statement for the checkpoints that ``where`` finds, newest first.

    Its parameters: the channels; a bound in bytes; the parameters of ``where``; and how many
    checkpoints to look at. Checkpoints are whole as long as all of them together keep the bound.
    """
    return statement(_PAGE.format(where=where))
