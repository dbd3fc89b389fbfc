-- Reads and deletes rows of run_usage. Flushes of the group-commit writer write them
-- (db/flush_2.sql).

-- name: spent_before
-- What was used of each budget when an attempt begins; 0 for a budget that is not set.
SELECT
  (SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint FROM run_usage
    WHERE run_id = %(run_id)s AND attempt < %(attempt)s AND %(run)s),
  (SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint FROM run_usage
    WHERE thread_id = %(thread_id)s AND %(thread)s),
  (SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint FROM run_usage
    WHERE tenant = %(tenant)s AND owner = %(owner)s AND %(owner_day)s
      AND created_at >= date_trunc('day', now(), 'UTC'))

-- name: delete_expired
-- The oldest rows whose time is over. A sweeper skips rows that another sweeper has locked.
WITH batch AS MATERIALIZED (
  SELECT run_id, attempt, model FROM run_usage
  WHERE created_at < now() - make_interval(secs => %(keep_seconds)s)
  ORDER BY created_at
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
)
DELETE FROM run_usage USING batch
WHERE run_usage.run_id = batch.run_id AND run_usage.attempt = batch.attempt
  AND run_usage.model = batch.model

-- name: report
-- A row for each value of what the report groups by, with the sums of all rows behind its own. An
-- assistant has the name of today, if it is there.
WITH used AS (
  SELECT CASE %(by)s
      WHEN 'assistant' THEN assistant_id::text
      WHEN 'thread' THEN thread_id
      WHEN 'owner' THEN owner
      WHEN 'graph' THEN graph_id
      WHEN 'model' THEN model
      WHEN 'day' THEN to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
      ELSE run_id::text END AS key,
    sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens
  FROM run_usage
  WHERE (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz)
    AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s::text)
  GROUP BY 1
), shown AS (
  SELECT used.*, count(*) OVER () AS groups, sum(calls) OVER ()::bigint AS all_calls,
    sum(input_tokens) OVER ()::bigint AS all_input,
    sum(output_tokens) OVER ()::bigint AS all_output,
    sum(cached_tokens) OVER ()::bigint AS all_cached,
    sum(reasoning_tokens) OVER ()::bigint AS all_reasoning
  FROM used
  ORDER BY CASE WHEN %(by)s = 'day' THEN key END DESC, input_tokens + output_tokens DESC,
    calls DESC, key
  LIMIT %(limit)s
)
SELECT key, name, calls, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
  groups, all_calls, all_input, all_output, all_cached, all_reasoning
FROM shown
LEFT JOIN assistants ON %(by)s = 'assistant' AND assistants.assistant_id::text = key
ORDER BY CASE WHEN %(by)s = 'day' THEN key END DESC, input_tokens + output_tokens DESC, calls DESC,
  key
