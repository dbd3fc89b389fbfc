-- Runs as processes see them that do not execute them.

-- name: states
-- An ended run's events are all stored when its owner had been asked for them until the end.
SELECT run_id, status, error, ended_at IS NULL OR coalesce(watched_until >= ended_at, false),
  (SELECT coalesce(max(event_id), 0) FROM run_events WHERE run_events.run_id = runs.run_id)
FROM runs WHERE run_id = ANY (%(run_ids)s::uuid[])

-- name: mark_watched
-- That somebody elsewhere wants their events, for so long, or only to be told of their end: then the
-- mark has lapsed from the start. Passes over rows that somebody changes just now. Tells whose owner
-- has not been asked for events yet.
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
