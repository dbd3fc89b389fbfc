-- Deleting and copying whole threads, with everything that is theirs.

-- name: owner_of_thread
-- Whether the thread is there for the caller, and the process that executes its run.
SELECT runs.process_id
FROM threads LEFT JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s AND threads.tenant = %(tenant)s

-- name: lock_thread
-- After the lock of that process; nothing starts on it from here on.
SELECT 1 FROM threads
WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s
FOR UPDATE

-- name: owner_of_locked_thread
-- The lock may have been waited for: who has the run now.
SELECT runs.process_id
FROM threads JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s

-- name: delete_events
-- But for those that somebody in another process reads just now: they go with the next sweep.
DELETE FROM run_events
WHERE run_id IN (
  SELECT run_id FROM runs
  WHERE thread_id = %(thread_id)s AND (watched_until IS NULL OR watched_until < now()))

-- name: delete_writes
DELETE FROM checkpoint_writes WHERE thread_id = %(thread_id)s

-- name: delete_blobs
DELETE FROM checkpoint_blobs WHERE thread_id = %(thread_id)s

-- name: delete_checkpoints
DELETE FROM checkpoints WHERE thread_id = %(thread_id)s

-- name: delete_thread
-- Its runs go with it.
DELETE FROM threads WHERE thread_id = %(thread_id)s

-- name: is_at_rest
SELECT 1 FROM threads
WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s AND status <> 'busy'

-- name: copy_thread
-- A copy has no run, and stands where its source's last one has left it.
INSERT INTO threads (
  thread_id, tenant, owner, metadata, status, error, interrupts, state_updated_at, ttl_minutes,
  ttl_strategy, sweep_at)
SELECT %(target)s, tenant, %(owner)s, metadata,
  CASE WHEN status <> 'busy' THEN status
    WHEN interrupts <> '{}'
      AND coalesce(error ->> 'error', 'UserInterrupt') = 'UserInterrupt' THEN 'interrupted'
    WHEN error IS NOT NULL THEN 'error'
    ELSE 'idle' END,
  error, interrupts,
  CASE WHEN state_updated_at IS NOT NULL THEN now() END,
  ttl_minutes, ttl_strategy, now() + make_interval(secs => ttl_minutes * 60)
FROM threads
WHERE thread_id = %(source)s AND tenant = %(tenant)s
RETURNING *

-- name: delete_ended_runs
-- But the newest, and those that somebody may still ask for: their events are stored or followed, or
-- their Idempotency-Key holds. Their checkpoints do not know them.
WITH ended AS MATERIALIZED (
  SELECT run_id FROM runs
  WHERE thread_id = %(thread_id)s AND ended_at IS NOT NULL
    AND coalesce(watched_until < now(), true)
    AND run_id < (
      SELECT newest.run_id FROM runs AS newest
      WHERE newest.thread_id = %(thread_id)s ORDER BY newest.run_id DESC LIMIT 1)
    AND NOT EXISTS (SELECT FROM run_events WHERE run_events.run_id = runs.run_id)
    AND NOT EXISTS (SELECT FROM idempotency_keys AS keys WHERE keys.run_id = runs.run_id)
  ORDER BY run_id
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
)
DELETE FROM runs USING ended WHERE runs.run_id = ended.run_id
