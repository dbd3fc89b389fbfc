-- Copying whole threads.

-- name: copy_thread
-- A copy has no run. If its source is busy, the copy gets the status that the last run has left.
-- The source is held until its checkpoints are copied: a deletion waits, so the copy has nothing of
-- a thread that is made with its id afterwards. Runs go on meanwhile.
INSERT INTO threads (
  thread_id, tenant, owner, metadata, status, error, interrupts, state_updated_at, ttl_minutes,
  ttl_strategy, sweep_at)
SELECT %(target)s, tenant, %(owner)s, metadata || %(metadata)s,
  CASE WHEN status <> 'busy' THEN status
    WHEN interrupts <> '{}'
      AND coalesce(error ->> 'error', 'UserInterrupt') = 'UserInterrupt' THEN 'interrupted'
    WHEN error IS NOT NULL THEN 'error'
    ELSE 'idle' END,
  error, interrupts,
  CASE WHEN state_updated_at IS NOT NULL THEN now() END,
  ttl_minutes, ttl_strategy, now() + make_interval(secs => ttl_minutes * 60)
FROM threads
WHERE thread_id = %(source)s AND :visible(threads)
FOR KEY SHARE
RETURNING thread_id, created_at, updated_at, metadata, config, status, state_updated_at, error,
  interrupts, ttl_minutes, ttl_strategy
