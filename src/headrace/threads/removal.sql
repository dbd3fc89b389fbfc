-- Deleting whole threads, with everything that belongs to them.

-- name: owner_of_thread
-- The caller's thread, if it is there, and the process that executes its run.
SELECT runs.process_id
FROM threads LEFT JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s AND :visible(threads)

-- name: lock_thread
-- The lock of that process is taken before. From here on no run starts on the thread.
SELECT 1 FROM threads
WHERE thread_id = %(thread_id)s AND :visible(threads)
FOR UPDATE

-- name: owner_of_locked_thread
-- The process that executes the run now: another one may have taken it while lock_thread waited.
SELECT runs.process_id
FROM threads JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s

-- name: delete_events
-- If another process reads the events of a run now, they stay until the next sweep.
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
-- Deletes its runs too (ON DELETE CASCADE).
DELETE FROM threads WHERE thread_id = %(thread_id)s

-- name: is_at_rest
SELECT 1 FROM threads
WHERE thread_id = %(thread_id)s AND :visible(threads) AND status <> 'busy'

-- name: delete_ended_runs
-- Keeps the newest run, and runs that a client may still ask for: their events are stored, a client
-- follows them, or an Idempotency-Key holds them. No checkpoint refers to the row of a run.
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
