-- Threads whose runs are all followed by a client.

-- name: mark_thread
-- Waits for a lock on the row: the client gets all runs that start after this commit. Returns the
-- run that is executed now, the run that may be claimed, and the status.
UPDATE threads SET watched_until = now() + make_interval(secs => %(seconds)s)
WHERE thread_id = %(thread_id)s AND :visible(threads)
RETURNING running_run_id, ready_run_id, status, state_updated_at

-- name: mark_threads
-- Renews marks of threads that mark_thread has found, long before they lapse; skips locked rows.
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
-- The threads that still exist, and when the state of each has changed last.
SELECT watch.number, threads.state_updated_at
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[],
    %(filters)s::text[]::jsonb[])
  WITH ORDINALITY AS watch (thread_id, tenant, owner, filter, number)
JOIN threads ON threads.thread_id = watch.thread_id AND :visible(threads, watch)

-- name: runs_since
-- Runs by the time of their start: the newest runs of each thread, and its running run, which may
-- have been made long ago. The last columns: whether its end was told (mark_told), and milliseconds
-- from the creation of the thread to the first start of the run.
SELECT watch.number, runs.run_id, runs.graph_id, runs.started_at, runs.ended_at IS NOT NULL,
  runs.watched_until IS NOT DISTINCT FROM runs.started_at,
  greatest(0, floor(extract(epoch FROM
    coalesce((runs.earlier_attempts -> 0 ->> 'started_at')::timestamptz, runs.started_at)
    - threads.created_at) * 1000))::int8
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[],
    %(filters)s::text[]::jsonb[], %(since)s::timestamptz[])
  WITH ORDINALITY AS watch (thread_id, tenant, owner, filter, since, number)
JOIN threads ON threads.thread_id = watch.thread_id AND :visible(threads, watch)
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
JOIN runs ON runs.run_id = candidate.run_id
WHERE runs.started_at >= watch.since
ORDER BY watch.number, runs.started_at, runs.run_id

-- name: mark_told
-- Nobody needs the events of an ended run stored. Until its start: its end was told to a client that
-- follows nothing but beginnings and ends.
UPDATE runs SET watched_until = started_at
WHERE run_id = %(run_id)s AND ended_at IS NOT NULL AND watched_until IS DISTINCT FROM started_at

-- name: last_seen
-- The time from which to look for runs: a transaction that began a moment ago may still start one.
-- And the start of the run that the client has seen last.
SELECT now() - interval '5 seconds', (
  SELECT started_at FROM runs
  WHERE run_id = %(run_id)s::uuid AND thread_id = %(thread_id)s AND :visible_run(runs))
