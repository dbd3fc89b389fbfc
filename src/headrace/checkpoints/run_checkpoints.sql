-- The checkpoints of one run, without their values. Sizes are those of the stored columns
-- (pg_column_size); no value is decompressed for them.

-- name: checkpoints
-- The time of a checkpoint is in its id (UUIDv6): reading it from the JSON would decompress the JSON.
-- A checkpoint of more than %(json_bytes)s stored bytes is not read at all. For such a checkpoint,
-- the size of its new blobs is not known.
-- A step begins at the checkpoint before it, or when its attempt began, whichever was later. A
-- subgraph begins at the checkpoint before it in any namespace.
WITH found AS MATERIALIZED (
  SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id,
    metadata ->> 'source' AS source, metadata ->> 'step' AS step,
    metadata ->> 'run_attempt' AS attempt,
    pg_column_size(checkpoint) + pg_column_size(metadata) AS bytes,
    pg_column_size(checkpoint) <= %(json_bytes)s AS small,
    CASE WHEN checkpoint_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-' THEN to_timestamp(((
      ('x0' || substr(checkpoint_id, 1, 8) || substr(checkpoint_id, 10, 4)
        || substr(checkpoint_id, 16, 3))::bit(64)::bigint - 122192928000000000) / 1e7)::float8)
      END AS created_at
  FROM checkpoints
  WHERE thread_id = %(thread_id)s AND metadata ->> 'run_id' = %(run_id)s
  ORDER BY checkpoint_id DESC
  LIMIT %(most)s
), sized AS MATERIALIZED (
  SELECT found.*, writes.bytes AS write_bytes, blobs.bytes AS blob_bytes,
    extract(epoch FROM found.created_at - greatest(coalesce(
        lag(found.created_at) OVER (PARTITION BY found.checkpoint_ns ORDER BY found.checkpoint_id),
        lag(found.created_at) OVER (ORDER BY found.checkpoint_id)),
      attempts.started_at))::float8 AS seconds
  FROM found
  LEFT JOIN unnest(%(attempts)s::text[], %(started)s::timestamptz[])
    AS attempts (attempt, started_at) ON attempts.attempt = found.attempt
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(pg_column_size(blob)), 0)::bigint AS bytes
    FROM checkpoint_writes
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = found.checkpoint_ns
      AND checkpoint_id = found.checkpoint_id
  ) AS writes
  LEFT JOIN LATERAL (
    SELECT coalesce(sum(stored.bytes), 0)::bigint AS bytes
    FROM (
      SELECT version.key, version.value
      FROM checkpoints AS own
      LEFT JOIN checkpoints AS parent
        ON parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = found.checkpoint_ns
          AND parent.checkpoint_id = found.parent_checkpoint_id
          AND pg_column_size(parent.checkpoint) <= %(json_bytes)s
      CROSS JOIN LATERAL jsonb_each_text(own.checkpoint -> 'channel_versions') AS version
      WHERE own.thread_id = %(thread_id)s AND own.checkpoint_ns = found.checkpoint_ns
        AND own.checkpoint_id = found.checkpoint_id
        AND version.value IS DISTINCT FROM parent.checkpoint -> 'channel_versions' ->> version.key
      OFFSET 0
    ) AS new
    -- OFFSET 0 keeps the planner from joining with all blobs of the thread, once per checkpoint.
    CROSS JOIN LATERAL (
      SELECT pg_column_size(blob) AS bytes FROM checkpoint_blobs
      WHERE thread_id = %(thread_id)s AND checkpoint_ns = found.checkpoint_ns
        AND channel = new.key AND version = new.value
      OFFSET 0
    ) AS stored
  ) AS blobs ON found.small
), total AS (
  SELECT count(*) AS count, count(*) FILTER (WHERE source = 'loop' AND checkpoint_ns = '') AS steps,
    coalesce(sum(bytes + write_bytes + coalesce(blob_bytes, 0)), 0)::bigint AS bytes,
    max(created_at) AS last_at
  FROM sized
), ends AS (
  SELECT jsonb_object_agg(attempt, last_at) AS by_attempt
  FROM (
    SELECT attempt, max(created_at) AS last_at FROM sized WHERE attempt IS NOT NULL GROUP BY attempt
  ) AS last
), longest AS (
  SELECT checkpoint_ns, checkpoint_id FROM sized
  WHERE source = 'loop' AND seconds IS NOT NULL
  ORDER BY seconds DESC, checkpoint_id LIMIT 1
), first AS (
  SELECT checkpoint_id, parent_checkpoint_id, step FROM sized
  WHERE checkpoint_ns = '' ORDER BY checkpoint_id LIMIT 1
), page AS (
  SELECT checkpoint_ns, checkpoint_id FROM sized
  ORDER BY checkpoint_id DESC, checkpoint_ns LIMIT %(limit)s OFFSET %(offset)s
)
SELECT total.count, total.steps AS loop_steps, total.bytes AS total_bytes, total.last_at, ends.by_attempt,
  first.step AS first_step,
  first.checkpoint_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM checkpoints AS parent
    WHERE parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = ''
      AND parent.checkpoint_id = first.parent_checkpoint_id) AS first_is_alone,
  shown.in_page, shown.is_longest, sized.checkpoint_ns, sized.checkpoint_id, sized.source,
  sized.step, sized.attempt, sized.created_at,
  CASE WHEN sized.seconds IS NOT NULL THEN greatest(sized.seconds, 0) END AS seconds, sized.bytes,
  sized.write_bytes, sized.blob_bytes, nodes.names AS nodes
FROM total CROSS JOIN ends
LEFT JOIN first ON true
LEFT JOIN (
  SELECT checkpoint_ns, checkpoint_id, bool_or(paged) AS in_page, NOT bool_and(paged) AS is_longest
  FROM (
    SELECT *, true AS paged FROM page UNION ALL SELECT *, false FROM longest
  ) AS wanted
  GROUP BY checkpoint_ns, checkpoint_id
) AS shown ON true
LEFT JOIN sized ON sized.checkpoint_ns = shown.checkpoint_ns
  AND sized.checkpoint_id = shown.checkpoint_id
LEFT JOIN LATERAL (
  -- The nodes that ran: those whose versions of channels are new, and those that left writes.
  SELECT array_agg(name ORDER BY name) AS names
  FROM (
    SELECT seen.key AS name
    FROM checkpoints AS own
    LEFT JOIN checkpoints AS parent
      ON parent.thread_id = own.thread_id AND parent.checkpoint_ns = own.checkpoint_ns
        AND parent.checkpoint_id = own.parent_checkpoint_id
    CROSS JOIN LATERAL jsonb_each(own.checkpoint -> 'versions_seen') AS seen
    WHERE sized.small
      AND own.thread_id = %(thread_id)s AND own.checkpoint_ns = sized.checkpoint_ns
      AND own.checkpoint_id = sized.checkpoint_id
      AND CASE WHEN parent.checkpoint_id IS NULL THEN %(only_last)s OR own.metadata ->> 'step' = '-1'
        ELSE pg_column_size(parent.checkpoint) <= %(json_bytes)s
          AND seen.value IS DISTINCT FROM parent.checkpoint -> 'versions_seen' -> seen.key END
    UNION
    SELECT substr(writes.task_path, length(%(pull)s) + 1)
    FROM checkpoint_writes AS writes
    WHERE writes.thread_id = %(thread_id)s AND writes.checkpoint_ns = sized.checkpoint_ns
      AND writes.checkpoint_id = sized.parent_checkpoint_id
      AND writes.idx >= 0 AND starts_with(writes.task_path, %(pull)s)
  ) AS ran
  WHERE name <> ALL (%(hidden)s::text[])
) AS nodes ON true
ORDER BY sized.checkpoint_id, sized.checkpoint_ns
