-- Statements of a flush of the group-commit writer. Run starts and ends are in queue/queue.sql,
-- events in events/log.sql. A batch is one transaction: guard, hold_threads if it has large values,
-- live_tokens if a run writes, then the rows.

-- name: guard
-- The locks have a statement of their own: the snapshots of later statements are younger than the
-- locks. transaction_timeout ends the flush of a client that falls silent half-way; before Postgres
-- 17 it keeps its locks for longer. Limits on idle transactions do not apply: for the server, a
-- pipeline is busy up to its end.
SELECT
  set_config('lock_timeout', %(lock_timeout)s, true),
  CASE WHEN current_setting('server_version_num')::int >= 170000
    THEN set_config('transaction_timeout', %(transaction_timeout)s, true) END,
  (SELECT count(pg_advisory_xact_lock_shared(key)) FROM unnest(%(keys)s::bigint[]) AS key)

-- name: hold_threads
-- For large values, which take long to write. A deletion of one of these threads waits until the
-- values are written, and then deletes them too. This comes before live_tokens: so live_tokens sees
-- that a deleted thread has no run any more.
SELECT count(*) FROM (
  SELECT 1 FROM threads WHERE thread_id = ANY (%(thread_ids)s::text[])
  ORDER BY thread_id
  FOR KEY SHARE
) AS held

-- name: live_tokens
-- Remembers two lists of token numbers, which begin at 1. live_tokens: this process still executes
-- the run. ended_tokens: an earlier try of this flush has ended the run and committed its rows, but
-- its answer was lost.
SELECT
  set_config('headrace.live_tokens', coalesce(
    string_agg(number::text, ',') FILTER (WHERE status = 'running'), ''), true),
  set_config('headrace.ended_tokens', coalesce(
    string_agg(number::text, ',') FILTER (WHERE status <> 'running'), ''), true)
FROM (
  SELECT token.number, runs.status
  FROM unnest(%(run_ids)s::uuid[], %(attempts)s::int[], %(process_ids)s::uuid[], %(endings)s::text[])
    WITH ORDINALITY AS token (run_id, attempt, process_id, ending, number)
  JOIN runs ON runs.run_id = token.run_id
  JOIN processes ON processes.process_id = token.process_id
  WHERE runs.attempt = token.attempt
    AND runs.process_id = token.process_id
    AND runs.status IN ('running', token.ending)
    AND NOT processes.lost
) AS held

-- name: write_rows
-- LangGraph's three statements, for many rows at once. Rows outside of a run have token 0. Returns
-- the valid tokens.
WITH live AS MATERIALIZED (
  SELECT string_to_array(current_setting('headrace.live_tokens', true), ',')::int[] || 0 AS tokens,
    string_to_array(current_setting('headrace.ended_tokens', true), ',')::int[] AS ended
), blobs AS (
  INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
  SELECT thread_id, ns, channel, version, type, blob
  FROM unnest(%(b_token)s::int[], %(b_thread_id)s::text[], %(b_ns)s::text[], %(b_channel)s::text[],
      %(b_version)s::text[], %(b_type)s::text[], %(b_blob)s::bytea[])
    AS given (token, thread_id, ns, channel, version, type, blob)
  WHERE token = ANY ((SELECT tokens FROM live)::int[])
  ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
), saved AS (
  INSERT INTO checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
  SELECT thread_id, ns, id, parent_id, checkpoint, metadata
  FROM unnest(%(c_token)s::int[], %(c_thread_id)s::text[], %(c_ns)s::text[], %(c_id)s::text[],
      %(c_parent_id)s::text[], %(c_checkpoint)s::jsonb[], %(c_metadata)s::jsonb[])
    AS given (token, thread_id, ns, id, parent_id, checkpoint, metadata)
  WHERE token = ANY ((SELECT tokens FROM live)::int[])
  ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
  DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
), given_writes AS (
  SELECT *
  FROM unnest(%(w_token)s::int[], %(w_thread_id)s::text[], %(w_ns)s::text[],
      %(w_checkpoint_id)s::text[], %(w_task_id)s::text[], %(w_idx)s::int[], %(w_task_path)s::text[],
      %(w_channel)s::text[], %(w_type)s::text[], %(w_blob)s::bytea[], %(w_replaces)s::bool[])
    AS given (token, thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, type, blob,
      replaces)
  WHERE token = ANY ((SELECT tokens FROM live)::int[])
), inserted AS (
  INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
  SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
  FROM given_writes WHERE NOT replaces
  ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING
), replaced AS (
  INSERT INTO checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
  SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
  FROM given_writes WHERE replaces
  ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
  DO UPDATE SET channel = excluded.channel, type = excluded.type, blob = excluded.blob
)
SELECT tokens || ended FROM live

-- name: store_usage
-- The figures of each attempt are absolute and only rise, so an earlier try of this flush does no
-- harm. The row of the run says whose they are. Returns the valid tokens.
WITH live AS MATERIALIZED (
  SELECT string_to_array(current_setting('headrace.live_tokens', true), ',')::int[] AS tokens,
    string_to_array(current_setting('headrace.ended_tokens', true), ',')::int[] AS ended
), saved AS (
  INSERT INTO run_usage (
    run_id, attempt, model, tenant, owner, thread_id, assistant_id, graph_id, calls, input_tokens,
    output_tokens, cached_tokens, reasoning_tokens)
  SELECT run_id, given.attempt, model, tenant, owner, thread_id, assistant_id, graph_id, calls,
    input_tokens, output_tokens, cached_tokens, reasoning_tokens
  FROM unnest(%(tokens)s::int[], %(run_ids)s::uuid[], %(attempts)s::int[], %(models)s::text[],
      %(calls)s::int[], %(input_tokens)s::bigint[], %(output_tokens)s::bigint[],
      %(cached_tokens)s::bigint[], %(reasoning_tokens)s::bigint[])
    AS given (token, run_id, attempt, model, calls, input_tokens, output_tokens, cached_tokens,
      reasoning_tokens)
  JOIN runs USING (run_id)
  WHERE token = ANY ((SELECT tokens FROM live)::int[])
  ON CONFLICT (run_id, attempt, model) DO UPDATE
  SET calls = greatest(run_usage.calls, excluded.calls),
      input_tokens = greatest(run_usage.input_tokens, excluded.input_tokens),
      output_tokens = greatest(run_usage.output_tokens, excluded.output_tokens),
      cached_tokens = greatest(run_usage.cached_tokens, excluded.cached_tokens),
      reasoning_tokens = greatest(run_usage.reasoning_tokens, excluded.reasoning_tokens)
)
SELECT tokens || ended FROM live
