"""Copies a thread's checkpoints inside the database."""

from typing import Any

from psycopg import AsyncCursor

from headrace.db.statements import statement

# One statement is atomic. It sees the source at one moment, even if a run writes to it meanwhile.
_COPY = statement("""
WITH copied_checkpoints AS (
    INSERT INTO checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    )
    SELECT
        %(target)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    FROM checkpoints WHERE thread_id = %(source)s
    ON CONFLICT DO NOTHING
), copied_blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(target)s, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs WHERE thread_id = %(source)s
    ON CONFLICT DO NOTHING
)
INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
)
SELECT %(target)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
FROM checkpoint_writes WHERE thread_id = %(source)s
ON CONFLICT DO NOTHING
""")


async def copy_thread(cursor: AsyncCursor[Any], source_id: str, target_id: str) -> None:
    """Give ``target_id`` all checkpoints of ``source_id``: every namespace and every ancestor.

    Copies keep their checkpoint ids. So both threads have one history, and a state that is stored
    as changes to an ancestor's state can be put together. Rows that the target already has are
    kept: a repetition after a lost connection changes nothing. Copies also keep the run ids in
    their metadata: ``adelete_for_runs`` deletes copies as well.
    """
    # Not prepared: a plan for one thread may be wrong for a thread of another size.
    await cursor.execute(_COPY, {"source": source_id, "target": target_id}, prepare=False)
