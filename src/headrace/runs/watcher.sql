-- Runs as processes see them that do not execute them, and what they ask of those that do.

-- name: states
SELECT run_id, status, error,
  (SELECT coalesce(max(event_id), 0) FROM run_events WHERE run_events.run_id = runs.run_id)
FROM runs WHERE run_id = ANY (%(run_ids)s::uuid[])

-- name: mark_watched
-- Passes over rows that somebody changes just now: the next round comes soon. Tells which were not
-- marked before.
UPDATE runs SET watched_until = now() + make_interval(secs => %(seconds)s)
FROM (
  SELECT run_id, watched_until IS NULL OR watched_until < now() AS is_new
  FROM runs
  WHERE run_id = ANY (%(run_ids)s::uuid[]) AND status IN ('pending', 'running')
  ORDER BY run_id
  FOR NO KEY UPDATE SKIP LOCKED
) AS watched
WHERE runs.run_id = watched.run_id
RETURNING runs.run_id, watched.is_new

-- name: requests
-- What is asked of the runs that a process executes.
SELECT run_id, cancel_action, coalesce(watched_until > now(), false)
FROM runs
WHERE process_id = ANY (%(process_ids)s::uuid[]) AND status = 'running'
  AND (cancel_action IS NOT NULL OR watched_until > now())
