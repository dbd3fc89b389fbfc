-- Runs whose time is over. Ids of runs rise with time, so the primary key finds the oldest runs.
-- There is no index by the end of a run: each start and end would have to write it.

-- name: look_at_oldest
-- The next runs, and whether each may be deleted: it ended long ago, nobody follows it, it has no
-- stored events, no Idempotency-Key holds it, and its thread is not busy (a queued run may name a
-- checkpoint of this run).
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
-- An ended run does not begin again. A sweeper skips rows that another sweeper has locked.
WITH batch AS MATERIALIZED (
  SELECT run_id FROM runs
  WHERE run_id = ANY (%(run_ids)s::uuid[]) AND ended_at IS NOT NULL
  ORDER BY run_id
  FOR UPDATE SKIP LOCKED
)
DELETE FROM runs USING batch WHERE runs.run_id = batch.run_id
