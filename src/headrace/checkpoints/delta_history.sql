-- How a DeltaChannel got its value: the writes since the last stored value, in one snapshot.
--
-- The walk goes from the checkpoint that is read to its parent, and so on, until a checkpoint has a
-- stored value, or is the one whose value the process still has. Each step reads one row by its
-- whole primary key. LangGraph's statement reads pages of 1,024 checkpoints instead, and then the
-- writes of all by a list of ids, for which Postgres may read every write of the thread.
--
-- `kind` is 'w' for a write, 'b' for the stored value as a blob, 'i' for one in the checkpoint's
-- JSON, and 'k' where the walk has ended at the known checkpoint.

-- name: delta_history
WITH RECURSIVE chain (depth, id, parent_id, version, inline, known) AS (
  SELECT 0, target.checkpoint_id, target.parent_checkpoint_id, NULL::text, NULL::jsonb, false
  FROM checkpoints AS target
  WHERE target.thread_id = %(thread_id)s AND target.checkpoint_ns = %(ns)s
    AND target.checkpoint_id = %(checkpoint_id)s
  UNION ALL
  SELECT chain.depth + 1, older.*
  FROM chain
  CROSS JOIN LATERAL (
    SELECT
      ancestor.checkpoint_id,
      ancestor.parent_checkpoint_id,
      (
        SELECT blob.version
        FROM checkpoint_blobs AS blob
        WHERE blob.thread_id = ancestor.thread_id AND blob.checkpoint_ns = ancestor.checkpoint_ns
          AND blob.channel = %(channel)s
          AND blob.version = ancestor.checkpoint -> 'channel_versions' ->> %(channel)s
          AND blob.type <> 'empty'
        LIMIT 1
      ),
      nullif(ancestor.checkpoint -> 'channel_values' -> %(channel)s, 'null'::jsonb),
      ancestor.checkpoint_id = %(known_id)s::text
    FROM checkpoints AS ancestor
    WHERE ancestor.thread_id = %(thread_id)s AND ancestor.checkpoint_ns = %(ns)s
      AND ancestor.checkpoint_id = chain.parent_id
    LIMIT 1
  ) AS older
  WHERE chain.version IS NULL AND chain.inline IS NULL AND chain.known IS NOT TRUE
)
SELECT
  'w' AS kind, chain.depth, written.type, written.blob, written.task_id, written.task_path,
  written.idx, NULL::jsonb AS inline
FROM chain
CROSS JOIN LATERAL (
  SELECT made.type, made.blob, made.task_id, made.task_path, made.idx
  FROM checkpoint_writes AS made
  WHERE made.thread_id = %(thread_id)s AND made.checkpoint_ns = %(ns)s
    AND made.checkpoint_id = chain.id AND made.channel = %(channel)s
  OFFSET 0
) AS written
WHERE chain.depth > 0
UNION ALL
SELECT 'b', chain.depth, seed.type, seed.blob, NULL, NULL, NULL, NULL
FROM chain
CROSS JOIN LATERAL (
  SELECT stored.type, stored.blob
  FROM checkpoint_blobs AS stored
  WHERE stored.thread_id = %(thread_id)s AND stored.checkpoint_ns = %(ns)s
    AND stored.channel = %(channel)s AND stored.version = chain.version
  LIMIT 1
) AS seed
WHERE chain.version IS NOT NULL
UNION ALL
SELECT
  CASE WHEN chain.known IS TRUE AND chain.inline IS NULL THEN 'k' ELSE 'i' END,
  chain.depth, NULL, NULL, NULL, NULL, NULL, chain.inline
FROM chain
WHERE chain.version IS NULL AND (chain.inline IS NOT NULL OR chain.known IS TRUE)
