-- Runs whose time is over. Ids of runs are in the order of their making, so that the oldest are found
-- by the primary key: no index knows when a run ended, and starts and ends write none for this.

-- name: look_at_oldest
-- Which of the next ones may go: ended long ago, on a thread that has no run and that none waits for
-- (a queued run may name a checkpoint that they have written), not followed, without stored events, and
-- without an Idempotency-Key that holds.
SELECT run_id,
  coalesce(ended_at < now() - make_interval(secs => %(keep_seconds)s), false)
  AND coalesce(watched_until < now(), true)
  AND NOT EXISTS (
    SELECT FROM threads WHERE threads.thread_id = old.thread_id AND threads.status = 'busy')
  AND NOT EXISTS (SELECT FROM run_events WHERE run_events.run_id = old.run_id)
  AND NOT EXISTS (SELECT FROM idempotency_keys AS keys WHERE keys.run_id = old.run_id)
FROM (
  SELECT run_id, thread_id, ended_at, watched_until FROM runs
  WHERE run_id > %(after)s AND run_id < %(before)s
  ORDER BY run_id
  LIMIT %(limit)s
) AS old
ORDER BY run_id

-- name: delete_ended
-- An ended run stays one. Several sweepers pass over each other's.
WITH batch AS MATERIALIZED (
  SELECT run_id FROM runs
  WHERE run_id = ANY (%(run_ids)s::uuid[]) AND ended_at IS NOT NULL
  ORDER BY run_id
  FOR UPDATE SKIP LOCKED
)
DELETE FROM runs USING batch WHERE runs.run_id = batch.run_id
