-- The storage that the checkpoints of a thread take, and its row during a change of its state.

-- name: storage
-- Counts JSON as it is stored, and other values as they were serialized. Reads no value.
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
WHERE threads.thread_id = %(thread_id)s AND :visible(threads)

-- name: lock_thread
-- Reads the row after taking its lock. From here on no run starts on the thread: starts, claims and
-- queueing skip a locked thread, and try again.
SELECT metadata ->> 'graph_id', config,
  coalesce(running_run_id, CASE WHEN ready_at <= clock_timestamp() THEN ready_run_id END)
FROM threads
WHERE thread_id = %(thread_id)s AND :visible(threads)
FOR NO KEY UPDATE

-- name: bound_transaction
-- If the process stands still, Postgres ends its transaction, and the thread becomes free.
SELECT set_config('idle_in_transaction_session_timeout', %(idle)s, true)

-- name: create_thread
INSERT INTO threads (
  thread_id, tenant, owner, metadata, ttl_minutes, ttl_strategy, sweep_at)
SELECT thread_id, %(tenant)s, %(owner)s, %(metadata)s, %(ttl_minutes)s, %(ttl_strategy)s,
  now() + make_interval(secs => %(ttl_minutes)s::float8 * 60)
FROM (VALUES (%(thread_id)s, %(takes_strays)s)) AS given (thread_id, takes_strays)
WHERE :may_make(given)
ON CONFLICT DO NOTHING
RETURNING thread_id

-- name: state_changed
-- The thread gets the status of the new state, but stays busy if a run waits for it.
UPDATE threads
SET status = CASE WHEN ready_run_id IS NULL THEN %(status)s ELSE 'busy' END,
  error = NULL, interrupts = %(interrupts)s, updated_at = now(), state_updated_at = now()
WHERE thread_id = %(thread_id)s
