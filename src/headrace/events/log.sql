-- Stored events of runs. The group-commit writer writes them, guarded by the fence (db/flush_2.sql).

-- name: last_event_id
SELECT coalesce(max(event_id), 0) FROM run_events WHERE run_id = %(run_id)s

-- name: is_watched
SELECT coalesce(watched_until > now(), false) FROM runs WHERE run_id = %(run_id)s

-- name: events_between
-- A page has a bound in rows and a bound in bytes. The first row may exceed the bound in bytes.
SELECT event_id, event, data
FROM (
  SELECT event_id, event, data,
    sum(octet_length(data)) OVER (ORDER BY event_id) - octet_length(data) AS bytes_before
  FROM run_events
  WHERE run_id = %(run_id)s AND event_id > %(after)s AND event_id < %(before)s
  ORDER BY event_id
  LIMIT %(limit)s
) AS page
WHERE bytes_before < %(bytes)s
ORDER BY event_id

-- name: events_named
-- The first events whose names begin so.
SELECT event_id, event, data
FROM run_events
WHERE run_id = %(run_id)s AND starts_with(event, %(prefix)s)
ORDER BY event_id
LIMIT %(limit)s

-- name: events_of_watched
-- A page for each watch. Watches are numbered from 1; pages are bounded as above.
SELECT number, page.event_id, page.event, page.data
FROM unnest(%(run_ids)s::uuid[], %(afters)s::int8[])
  WITH ORDINALITY AS watch (run_id, after, number)
CROSS JOIN LATERAL (
  SELECT event_id, event, data,
    sum(octet_length(data)) OVER (ORDER BY event_id) - octet_length(data) AS bytes_before
  FROM run_events
  WHERE run_events.run_id = watch.run_id AND event_id > watch.after
  ORDER BY event_id
  LIMIT %(limit)s
) AS page
WHERE bytes_before < %(bytes)s
ORDER BY number, page.event_id

-- name: runs_with_expired_events
-- Steps from run to run in the index of the primary key, without reading the events in between. A
-- run is expired if it ended long ago, or if its row is gone.
WITH RECURSIVE found AS (
  (SELECT run_id, 1 AS number FROM run_events WHERE run_id > %(after)s ORDER BY run_id LIMIT 1)
  UNION ALL
  SELECT (SELECT run_events.run_id FROM run_events WHERE run_events.run_id > found.run_id
      ORDER BY run_events.run_id LIMIT 1), number + 1
  FROM found
  WHERE found.run_id IS NOT NULL AND number < %(limit)s
)
SELECT found.run_id,
  runs.run_id IS NULL OR coalesce(
    runs.ended_at < now() - make_interval(secs => %(keep_seconds)s), false) AS expired
FROM found LEFT JOIN runs ON runs.run_id = found.run_id
WHERE found.run_id IS NOT NULL
ORDER BY found.run_id

-- name: delete_events
DELETE FROM run_events
USING (
  SELECT run_id, event_id FROM run_events
  WHERE run_id = ANY (%(run_ids)s)
  ORDER BY run_id, event_id
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
) AS batch
WHERE run_events.run_id = batch.run_id AND run_events.event_id = batch.event_id
