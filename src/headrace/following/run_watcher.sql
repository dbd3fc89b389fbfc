-- Runs that another process executes: what their rows say.

-- name: states
-- The fourth column: whether the executing process stored events until the run ended.
SELECT run_id, status, error, ended_at IS NULL OR coalesce(watched_until >= ended_at, false),
  (SELECT coalesce(max(event_id), 0) FROM run_events WHERE run_events.run_id = runs.run_id)
FROM runs WHERE run_id = ANY (%(run_ids)s::uuid[])

-- name: mark_watched
-- Marks runs for another process. A mark for events lasts some seconds; a mark for the end alone
-- has lapsed from the start. Skips locked rows. Returns the marked runs, and whether the mark for
-- events is new to the process that executes the run.
UPDATE runs SET watched_until = CASE
    WHEN watched.events THEN now() + make_interval(secs => %(seconds)s)
    ELSE coalesce(watched_until, now()) END
FROM (
  SELECT run_id, wanted.events, watched_until IS NULL OR watched_until <= now() AS is_new
  FROM runs
  JOIN unnest(%(run_ids)s::uuid[], %(events)s::bool[]) AS wanted (run_id, events) USING (run_id)
  WHERE status IN ('pending', 'running')
  ORDER BY run_id
  FOR NO KEY UPDATE OF runs SKIP LOCKED
) AS watched
WHERE runs.run_id = watched.run_id
RETURNING runs.run_id, watched.events AND watched.is_new
