-- What one run has done. All statements of a timeline read one snapshot.

-- name: begin
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: bound
SELECT set_config('statement_timeout', %(timeout)s, true), set_config('jit', 'off', true),
  set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
  set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('plan_cache_mode', 'force_custom_plan', true)

-- name: run
-- Not shown: a run that is being rolled back. A host and a pid are known as long as the process has
-- a row. Input null without a command goes on where the thread was interrupted.
SELECT runs.run_id, runs.thread_id, runs.assistant_id, runs.graph_id, runs.status, runs.attempt,
  runs.failures, runs.process_id, runs.multitask_strategy, runs.error, runs.error_cause,
  runs.created_at,
  runs.started_at, runs.ended_at, runs.cancel_action, runs.cancel_asked_at, runs.cancel_reason,
  runs.cancel_note,
  runs.request_id, runs.traceparent, runs.earlier_attempts, runs.interrupts,
  runs.kwargs ->> 'durability' AS durability,
  coalesce(runs.kwargs -> 'command' ? 'resume'
    OR jsonb_typeof(runs.kwargs -> 'input') = 'null'
      AND jsonb_typeof(runs.kwargs -> 'command') = 'null', false) AS goes_on,
  processes.hostname, processes.pid, threads.pruned_at, now() AS read_at
FROM runs
JOIN threads ON threads.thread_id = runs.thread_id
LEFT JOIN processes ON processes.process_id = runs.process_id
WHERE runs.run_id = %(run_id)s
  AND (%(anybody)s OR :visible_run(runs))
  AND (%(thread_id)s::text IS NULL OR runs.thread_id = %(thread_id)s)
  AND NOT (runs.status IN ('pending', 'running') AND coalesce(runs.cancel_action, '') = 'rollback')

-- name: run_before
-- The run whose interrupts this run answers: the newest one before it that has left some.
SELECT run_id FROM runs
WHERE thread_id = %(thread_id)s AND run_id < %(run_id)s AND interrupts IS NOT NULL
ORDER BY run_id DESC LIMIT 1

-- name: runs_after
-- Later runs that go on from the interrupts of this run, up to the next run that has left some.
SELECT run_id, created_at
FROM (
  SELECT run_id, created_at, kwargs FROM runs
  WHERE thread_id = %(thread_id)s AND run_id > %(run_id)s
    AND run_id <= coalesce((
      SELECT next.run_id FROM runs AS next
      WHERE next.thread_id = %(thread_id)s AND next.run_id > %(run_id)s
        AND next.interrupts IS NOT NULL
      ORDER BY next.run_id LIMIT 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  ORDER BY run_id LIMIT 100
) AS later
WHERE kwargs -> 'command' ? 'resume'
  OR jsonb_typeof(kwargs -> 'input') = 'null' AND jsonb_typeof(kwargs -> 'command') = 'null'
ORDER BY run_id LIMIT 10

-- name: runs_ahead
-- Runs of the thread that were unfinished when this run might start: it had to wait for them.
SELECT run_id, ended_at
FROM (
  SELECT run_id, created_at, ended_at FROM runs
  WHERE thread_id = %(thread_id)s AND run_id < %(run_id)s
  ORDER BY run_id DESC LIMIT 100
) AS earlier
WHERE ended_at IS NULL AND created_at <= now() OR ended_at > %(created_at)s
ORDER BY run_id LIMIT 10

-- name: events
SELECT count(*), min(created_at), max(created_at), coalesce(sum(octet_length(data)), 0)::bigint
FROM run_events WHERE run_id = %(run_id)s

-- name: tokens
SELECT sum(calls)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint,
  sum(cached_tokens)::bigint, sum(reasoning_tokens)::bigint
FROM run_usage WHERE run_id = %(run_id)s
HAVING count(*) > 0
