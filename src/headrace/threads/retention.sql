-- Threads whose time is over. The law (architecture.md): lock in one statement, act in the next.
-- sweep_at says when to look at a thread, not when its time is over. Runs do not write it, so their
-- starts and ends touch no index; these statements move it on, at most once per time to live.

-- name: tenants
WITH RECURSIVE found (tenant) AS (
  (SELECT tenant FROM threads WHERE NOT temporary ORDER BY tenant LIMIT 1)
  UNION ALL
  SELECT (SELECT tenant FROM threads WHERE NOT temporary AND threads.tenant > found.tenant
    ORDER BY tenant LIMIT 1)
  FROM found WHERE found.tenant IS NOT NULL
)
SELECT tenant FROM found WHERE tenant IS NOT NULL

-- name: plan_unplanned
-- Threads without a time to live of their own that are old enough for the default. An earlier round
-- has planned threads created before %(since)s.
WITH old AS MATERIALIZED (
  SELECT thread_id, created_at FROM threads
  WHERE tenant = %(tenant)s AND NOT temporary AND sweep_at IS NULL
    AND created_at >= %(since)s
    AND created_at <= now() - make_interval(secs => %(ttl_minutes)s::float8 * 60)
  ORDER BY created_at
  LIMIT %(limit)s
  FOR NO KEY UPDATE SKIP LOCKED
), planned AS (
  UPDATE threads SET sweep_at = now() FROM old WHERE threads.thread_id = old.thread_id
)
SELECT count(*), max(created_at) FROM old

-- name: lock_due
-- Skips threads that another sweeper, or any other transaction, has locked.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT thread_id FROM threads
    WHERE sweep_at <= now()
    ORDER BY sweep_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ) AS due
), '[]'), true)

-- name: judge_locked
-- The verdict on each thread, and the time of the next look: for a thread that was used since, when
-- its time is over; for a busy thread, soon; for a thread to reduce, in ten minutes. Until then
-- other sweepers leave it to this one.
WITH locked AS MATERIALIZED (
  SELECT thread_id, status, pruned_at,
    coalesce(ttl_strategy, %(strategy)s) AS strategy,
    greatest(updated_at, state_updated_at) AS used_at,
    make_interval(secs => coalesce(ttl_minutes, %(ttl_minutes)s::float8) * 60) AS ttl
  FROM threads
  WHERE thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))
), judged AS MATERIALIZED (
  SELECT *, CASE
    WHEN ttl IS NULL THEN 'keep'
    WHEN status = 'busy' THEN 'busy'
    WHEN used_at + ttl > now() THEN 'later'
    WHEN strategy = 'delete' THEN 'delete'
    WHEN pruned_at >= used_at THEN 'reduced'
    ELSE 'reduce' END AS verdict
  FROM locked
), moved AS (
  UPDATE threads
  SET sweep_at = CASE verdict
      WHEN 'busy' THEN now() + least(ttl, interval '5 minutes')
      WHEN 'later' THEN used_at + ttl
      WHEN 'reduce' THEN now() + interval '10 minutes'
      WHEN 'reduced' THEN now() + greatest(ttl, interval '1 day') END
  FROM judged
  WHERE threads.thread_id = judged.thread_id AND verdict <> 'delete'
)
SELECT thread_id, verdict FROM judged

-- name: mark_reduced
-- The next look is after a day, or after the time to live of the thread if that is longer. If the
-- thread was used by then, it is reduced again.
UPDATE threads
SET pruned_at = now(), sweep_at = now() + greatest(
  make_interval(secs => coalesce(ttl_minutes, %(ttl_minutes)s::float8) * 60), interval '1 day')
WHERE thread_id = %(thread_id)s
RETURNING thread_id

-- name: delete_events
DELETE FROM run_events
WHERE run_id IN (SELECT run_id FROM runs WHERE thread_id = ANY (%(thread_ids)s))

-- name: delete_writes
DELETE FROM checkpoint_writes WHERE thread_id = ANY (%(thread_ids)s)

-- name: delete_blobs
DELETE FROM checkpoint_blobs WHERE thread_id = ANY (%(thread_ids)s)

-- name: delete_checkpoints
DELETE FROM checkpoints WHERE thread_id = ANY (%(thread_ids)s)

-- name: delete_threads
-- Deletes their runs too (ON DELETE CASCADE).
DELETE FROM threads WHERE thread_id = ANY (%(thread_ids)s)

-- name: postpone
-- Threads that cannot be deleted now are looked at again in ten minutes, after the others.
UPDATE threads SET sweep_at = now() + interval '10 minutes'
WHERE thread_id = ANY (%(thread_ids)s::text[])
