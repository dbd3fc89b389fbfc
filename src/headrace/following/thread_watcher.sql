-- Threads of which somebody follows all runs.

-- name: mark_thread
-- Waits for whoever has the row: runs that start after this has been committed are told. What runs
-- now is joined; what began a moment ago and is over is known already.
UPDATE threads SET watched_until = now() + make_interval(secs => %(seconds)s)
WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s
RETURNING running_run_id, state_updated_at

-- name: mark_threads
-- The same again, long before it lapses; passes over rows that somebody changes just now.
UPDATE threads SET watched_until = now() + make_interval(secs => %(seconds)s)
FROM (
  SELECT thread_id FROM threads
  WHERE thread_id = ANY (%(thread_ids)s::text[])
  ORDER BY thread_id
  FOR NO KEY UPDATE SKIP LOCKED
) AS watched
WHERE threads.thread_id = watched.thread_id
RETURNING threads.thread_id

-- name: threads
-- Those that are there still, and when their state has changed last.
SELECT watch.number, threads.state_updated_at
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[])
  WITH ORDINALITY AS watch (thread_id, tenant, number)
JOIN threads ON threads.thread_id = watch.thread_id AND threads.tenant = watch.tenant

-- name: runs_since
-- In the order of their starts. Of a thread's runs the newest are looked at, and the one that it
-- runs, which may have been made long ago.
SELECT watch.number, runs.run_id, runs.graph_id, runs.started_at
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(since)s::timestamptz[])
  WITH ORDINALITY AS watch (thread_id, tenant, since, number)
CROSS JOIN LATERAL (
  (
    SELECT newest.run_id FROM runs AS newest
    WHERE newest.thread_id = watch.thread_id
    ORDER BY newest.run_id DESC
    LIMIT %(limit)s
  )
  UNION
  SELECT running.run_id FROM runs AS running
  WHERE running.thread_id = watch.thread_id AND running.status = 'running'
) AS candidate
JOIN runs ON runs.run_id = candidate.run_id AND runs.tenant = watch.tenant
WHERE runs.started_at >= watch.since
ORDER BY watch.number, runs.started_at, runs.run_id

-- name: last_seen
-- From when on to look for runs: transactions that began a moment ago may take the thread yet. And
-- when the run that a client has seen last has started.
SELECT now() - interval '5 seconds', (
  SELECT started_at FROM runs
  WHERE run_id = %(run_id)s::uuid AND thread_id = %(thread_id)s AND tenant = %(tenant)s)
