"""Deletes some of a thread's checkpoints without breaking the others."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from psycopg import AsyncCursor
from psycopg.errors import DeadlockDetected, SerializationFailure

from headrace.db.planner import use_indexes
from headrace.db.statements import statement

# A concurrent deletion waits at this statement. Only checkpoints that it finds are deleted.
_DOOMED = statement("""
SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints
WHERE metadata ->> 'run_id' = ANY(%s) AND (%s::text IS NULL OR thread_id = %s)
ORDER BY thread_id, checkpoint_ns, checkpoint_id
FOR UPDATE
""")

# All statements below get the checkpoints to delete as three arrays, in this form.
_THESE = (
    "unnest(%(threads)s::text[], %(namespaces)s::text[], %(ids)s::text[]) AS doomed (t, ns, id)"
)

# Children that are kept, but store their state as changes to an ancestor's state. LangGraph notes
# such changes in counters; LangGraph.js marks the whole thread.
_DEPENDENT = statement(f"""
SELECT DISTINCT c.thread_id
FROM {_THESE}
JOIN checkpoints c
  ON c.thread_id = doomed.t AND c.checkpoint_ns = doomed.ns AND c.parent_checkpoint_id = doomed.id
WHERE (c.metadata ? 'counters_since_delta_snapshot' OR c.metadata ? 'delta_writes_versioned')
  AND NOT coalesce(c.metadata ->> 'run_id' = ANY(%(runs)s), false)
ORDER BY c.thread_id
""")  # noqa: S608 - of constants

_DELETE_CHECKPOINTS = statement(f"""
WITH gone AS (
    DELETE FROM checkpoints c USING {_THESE}
    WHERE c.thread_id = doomed.t AND c.checkpoint_ns = doomed.ns AND c.checkpoint_id = doomed.id
    RETURNING c.thread_id, c.checkpoint_ns, c.checkpoint -> 'channel_versions' AS versions
)
SELECT DISTINCT gone.thread_id, gone.checkpoint_ns, v.key, v.value
FROM gone CROSS JOIN LATERAL jsonb_each_text(gone.versions) AS v
""")  # noqa: S608 - of constants

_DELETE_WRITES = statement(f"""
DELETE FROM checkpoint_writes w USING {_THESE}
WHERE w.thread_id = doomed.t AND w.checkpoint_ns = doomed.ns AND w.checkpoint_id = doomed.id
""")  # noqa: S608 - of constants

# LangGraph's aprune also does this, for the oldest checkpoint that it keeps.
_FORGET_PARENTS = statement(f"""
UPDATE checkpoints c SET parent_checkpoint_id = NULL FROM {_THESE}
WHERE c.thread_id = doomed.t AND c.checkpoint_ns = doomed.ns
  AND c.parent_checkpoint_id = doomed.id
""")  # noqa: S608 - of constants

# Checkpoints that have one version of a channel share its blob.
_DELETE_BLOBS = statement("""
WITH freed AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS freed (thread_id, checkpoint_ns, channel, version)
), kept AS (
    SELECT DISTINCT c.thread_id, c.checkpoint_ns, v.key AS channel, v.value AS version
    FROM (SELECT DISTINCT thread_id, checkpoint_ns FROM freed) AS place
    JOIN checkpoints c USING (thread_id, checkpoint_ns)
    CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
), garbage AS (
    SELECT * FROM freed EXCEPT SELECT * FROM kept
)
DELETE FROM checkpoint_blobs b USING garbage g
WHERE b.thread_id = g.thread_id AND b.checkpoint_ns = g.checkpoint_ns
  AND b.channel = g.channel AND b.version = g.version
""")

#: Concurrent deletions may block each other. Then Postgres ends one, which is repeated.
_ATTEMPTS = 8
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.4


async def delete_for_runs(
    cursor: AsyncCursor[Any], run_ids: Sequence[str], *, thread_id: str | None = None
) -> None:
    """Delete the checkpoints that these runs wrote, with their writes and blobs.

    There is no index on the run of a checkpoint. So this reads all checkpoints of the thread;
    without ``thread_id``, all checkpoints of the database.

    :raises NotImplementedError: a checkpoint of another run would lose values that its state
        depends on. Nothing is deleted.
    """
    if not run_ids:
        return
    async with cursor.connection.transaction():
        await use_indexes(cursor.connection)
        await cursor.execute(_DOOMED, (list(run_ids), thread_id, thread_id), prepare=False)
        doomed = await cursor.fetchall()
        if not doomed:
            return
        these = {
            "threads": [row["thread_id"] for row in doomed],
            "namespaces": [row["checkpoint_ns"] for row in doomed],
            "ids": [row["checkpoint_id"] for row in doomed],
        }
        await _refuse_dependent(cursor, {**these, "runs": list(run_ids)})
        await cursor.execute(_DELETE_WRITES, these, prepare=False)
        await cursor.execute(_DELETE_CHECKPOINTS, these, prepare=False)
        freed = await cursor.fetchall()
        await cursor.execute(_FORGET_PARENTS, these, prepare=False)
        columns = ("thread_id", "checkpoint_ns", "key", "value")
        await cursor.execute(
            _DELETE_BLOBS, [[row[name] for row in freed] for name in columns], prepare=False
        )


async def _refuse_dependent(cursor: AsyncCursor[Any], these: dict[str, list[str]]) -> None:
    await cursor.execute(_DEPENDENT, these, prepare=False)
    if threads := [row["thread_id"] for row in await cursor.fetchall()]:
        raise NotImplementedError(
            "cannot delete checkpoints that later ones are stored as changes to"
            f" (DeltaChannel): {', '.join(threads)}"
        )


async def retried_deletion(delete: Callable[[], Awaitable[None]]) -> None:
    """Run a deletion, and repeat it if a concurrent deletion made it fail.

    :raises psycopg.errors.SerializationFailure: or DeadlockDetected, at the last attempt.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await delete()
        except (SerializationFailure, DeadlockDetected):
            if attempt == _ATTEMPTS:
                raise
        else:
            return
        longest = min(_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads
