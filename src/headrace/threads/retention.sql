-- Threads whose time is over. The law (architecture.md): lock in one statement, act in the next.
-- sweep_at says when to look at a thread, not when its time is over: runs do not touch it, so that
-- their starts and ends touch no index. It is moved on here, at most once per time to live.

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
-- Threads that go by the default and are old enough to be looked at. Those before the cursor were
-- planned by an earlier round.
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
-- Several sweepers pass over each other's threads, and over those that somebody works on just now.
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
-- What is to become of each: a thread that was used since is looked at again when its time is over,
-- a busy one soon. One that is to be reduced is this sweeper's for ten minutes.
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
-- Looked at again after a day, or its time if that is longer: then it is reduced if it was used.
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
-- Their runs go with them.
DELETE FROM threads WHERE thread_id = ANY (%(thread_ids)s)

-- name: postpone
-- What cannot be deleted now is looked at again in ten minutes, behind the others.
UPDATE threads SET sweep_at = now() + interval '10 minutes'
WHERE thread_id = ANY (%(thread_ids)s::text[])
