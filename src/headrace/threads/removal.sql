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
