-- New threads and reads of threads, many at once.

-- name: insert_threads
-- Threads of one transaction get rising times, so that lists show them in their order. Returns the
-- metadata as it is stored, if there is any. takes_strays is false only for ids that callers name:
-- alone then it looks for checkpoints.
INSERT INTO threads (
  thread_id, tenant, owner, metadata, ttl_minutes, ttl_strategy, sweep_at, created_at, updated_at)
SELECT thread_id, tenant, owner, metadata, ttl_minutes::float8, ttl_strategy,
  made_at + make_interval(secs => ttl_minutes::float8 * 60), made_at, made_at
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[], %(metadata)s::jsonb[],
    %(ttl_minutes)s::text[], %(ttl_strategies)s::text[], %(takes_strays)s::bool[])
  WITH ORDINALITY AS given (
    thread_id, tenant, owner, metadata, ttl_minutes, ttl_strategy, takes_strays, number)
CROSS JOIN LATERAL (SELECT now() + number * interval '1 microsecond' AS made_at) AS clock
WHERE :may_make(given)
ON CONFLICT DO NOTHING
RETURNING thread_id, created_at, CASE WHEN metadata <> '{}' THEN metadata END

-- name: get_threads
-- Names its columns. With "*", a column that a later release adds would change the result of the
-- prepared statement, and Postgres would refuse it on every connection that has it.
SELECT given.number, pg_is_in_recovery() AS in_recovery, thread.*
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[], %(filters)s::jsonb[])
  WITH ORDINALITY AS given (thread_id, tenant, owner, filter, number)
LEFT JOIN LATERAL (
  SELECT thread_id, created_at, updated_at, metadata, config, status, state_updated_at, error,
    interrupts, ttl_minutes, ttl_strategy
  FROM threads
  WHERE threads.thread_id = given.thread_id AND :visible(threads, given)
  OFFSET 0
) AS thread ON true
