"""The largest of the threads that had runs most recently, for ``/metrics``.

A thread's bytes are those of its checkpoints as Postgres stores them: after compression, without
indexes. ``pg_column_size`` does not read a large value itself, so a thread costs one look at each
of its rows.
"""

from headrace.db.pool import Connection
from headrace.db.statements import statement

# Ids of runs rise with time, so the primary key of runs gives the latest ones.
_LARGEST_RECENT = statement("""
WITH recent AS (
  SELECT DISTINCT thread_id FROM (
    SELECT thread_id FROM runs ORDER BY run_id DESC LIMIT %(runs)s
  ) AS latest
)
SELECT coalesce(max(
  (SELECT coalesce(sum(pg_column_size(b.blob)), 0)
   FROM checkpoint_blobs AS b WHERE b.thread_id = recent.thread_id)
  + (SELECT coalesce(sum(pg_column_size(w.blob)), 0)
     FROM checkpoint_writes AS w WHERE w.thread_id = recent.thread_id)
  + (SELECT coalesce(sum(pg_column_size(c.checkpoint) + pg_column_size(c.metadata)), 0)
     FROM checkpoints AS c WHERE c.thread_id = recent.thread_id)
), 0)::bigint FROM recent
""")


async def largest_recent_bytes(connection: Connection, *, runs: int) -> int:
    """The bytes of the largest thread among those of the latest ``runs`` runs; 0 without runs."""
    row = await (
        await connection.execute(_LARGEST_RECENT, {"runs": runs}, prepare=False)
    ).fetchone()
    assert row is not None
    return int(row[0])
