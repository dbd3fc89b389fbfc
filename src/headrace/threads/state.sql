-- What a thread's checkpoints take up, and its row around a change of its state.

-- name: storage
-- JSON as it is stored, everything else as it was serialized: neither is read for that.
SELECT checkpoints.count, checkpoints.bytes, channels.by_channel, writes.count, writes.bytes
FROM threads
CROSS JOIN LATERAL (
  SELECT count(*) AS count,
    coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0)::bigint AS bytes
  FROM checkpoints WHERE checkpoints.thread_id = threads.thread_id
) AS checkpoints
CROSS JOIN LATERAL (
  SELECT coalesce(jsonb_object_agg(channel, jsonb_build_object(
    'versions', versions, 'bytes', bytes)), '{}') AS by_channel
  FROM (
    SELECT channel, count(*) AS versions, coalesce(sum(octet_length(blob)), 0) AS bytes
    FROM checkpoint_blobs WHERE checkpoint_blobs.thread_id = threads.thread_id
    GROUP BY channel
  ) AS channel_sizes
) AS channels
CROSS JOIN LATERAL (
  SELECT count(*) AS count, coalesce(sum(octet_length(blob)), 0)::bigint AS bytes
  FROM checkpoint_writes WHERE checkpoint_writes.thread_id = threads.thread_id
) AS writes
WHERE threads.thread_id = %(thread_id)s AND threads.tenant = %(tenant)s
