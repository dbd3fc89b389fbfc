-- The functions of a flush of the group-commit writer: one call is one flush, one statement, one
-- round trip (ADR 20). A revision creates them. Their names end with a version: a release that
-- needs other functions adds new names, so that the release before it finds its own while both
-- serve. Do not change a function that a release has had.
--
-- The law of queue.sql holds here too: lock in one statement, act in the next. A statement of a
-- VOLATILE function takes a snapshot of its own under READ COMMITTED, so it sees all that was
-- committed before the locks of the statement before it. Variables remember what was locked.
--
-- Plans must not depend on statistics: they are made once per session, perhaps while the tables are
-- empty. So a table is always read by its primary key, in one of two shapes that leave the planner
-- no choice. Reads are LATERAL, with LIMIT or a lock. Updates compare with ANY (ARRAY[...]), which
-- no hash join, merge join or scan of a whole index can use. headrace_flush_2 switches off
-- sequential scans, for itself and for the functions that it calls.
--
-- Columns come as arrays. "i" is the number of a row or an operation, from 1. plpgsql unpacks an
-- array once, so that reading element i is cheap.

-- name: headrace_left_behind_1
-- Whether the server has another timeline than the one on which a process has registered: a standby
-- was promoted since, or a backup was restored. Then commits of that process may be lost. The
-- timeline is that of the WAL that is written now: pg_control_checkpoint() shows an older one until
-- the first checkpoint after the promotion. A process without a timeline is never left behind: not
-- every role may call these functions, so they stand in a statement of their own.
CREATE OR REPLACE FUNCTION headrace_left_behind_1(timeline text)
RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF timeline IS NULL OR pg_is_in_recovery() THEN
    RETURN false;
  END IF;
  RETURN timeline <> left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
END $$

-- name: headrace_end_runs_2
CREATE OR REPLACE FUNCTION headrace_end_runs_2(
  run_ids uuid[], thread_ids text[], attempts int[], process_ids uuid[], statuses text[],
  thread_statuses text[], errors jsonb[], thread_interrupts jsonb[], notes jsonb[]
) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  held bigint[];
  results json;
BEGIN
  -- Locks the threads, and remembers the ends whose runs have them.
  SELECT array_agg(i) INTO held
  FROM (
    SELECT given.i, thread.running_run_id = run_ids[given.i] AS has_thread
    FROM (
      SELECT i, thread_id FROM unnest(thread_ids) WITH ORDINALITY AS numbered (thread_id, i)
      ORDER BY thread_id
    ) AS given
    CROSS JOIN LATERAL (
      SELECT running_run_id FROM threads WHERE threads.thread_id = given.thread_id
      FOR NO KEY UPDATE
    ) AS thread
  ) AS locked
  WHERE has_thread;

  -- Checks process and attempt, so that a process that lost a run changes nothing. A process that
  -- is left behind ends nothing either: checkpoints of the run may be lost. The end
  -- "pending" is a release: any process may claim the run again. The next run of a thread is
  -- younger than the run that ends here, unless a clock was set back. So older index entries, which
  -- an old snapshot keeps, are not read. If a run was asked to stop, it must end in that way: clients
  -- see that status from the time of the request. A release notes the attempt that it ends. The
  -- cause of an error, and a stop that was asked for in the process alone, are noted too. The status
  -- is compared in a form that no partial index has.
  WITH ended AS (
    UPDATE runs
    SET status = statuses[i], error = errors[i], updated_at = now(),
        ended_at = CASE WHEN statuses[i] <> 'pending' THEN now() END,
        process_id = CASE WHEN statuses[i] <> 'pending' THEN runs.process_id END,
        earlier_attempts = CASE WHEN statuses[i] <> 'pending' THEN runs.earlier_attempts ELSE
          CASE WHEN jsonb_typeof(runs.earlier_attempts) = 'array'
            -- If there are 50, the first one goes: there is no element 50.
            THEN runs.earlier_attempts
              - CASE WHEN jsonb_array_length(runs.earlier_attempts) < 50 THEN 50 ELSE 0 END
            ELSE '[]' END
          || (notes[i] || jsonb_build_object('attempt', runs.attempt,
            'process_id', runs.process_id, 'started_at', runs.started_at, 'ended_at', now(),
            'ended', 'released')) END,
        error_cause = notes[i] ->> 'cause', interrupts = notes[i] -> 'interrupts',
        cancel_reason = coalesce(runs.cancel_reason, notes[i] ->> 'cancel_reason'),
        cancel_asked_at = coalesce(
          runs.cancel_asked_at, (notes[i] ->> 'cancel_asked_at')::timestamptz)
    FROM unnest(held) AS given (i)
    WHERE runs.run_id = ANY (ARRAY[run_ids[i]]) AND runs.attempt = attempts[i]
      AND runs.process_id = process_ids[i] AND runs.status IS NOT DISTINCT FROM 'running'
      AND (SELECT headrace_left_behind_1(processes.timeline) FROM processes
        WHERE processes.process_id = process_ids[i]) IS NOT true
      AND (runs.cancel_action IS NULL OR statuses[i] = 'pending'
        OR statuses[i] = 'interrupted' AND runs.cancel_action <> 'rollback')
    RETURNING i, runs.run_id, runs.graph_id, runs.caller, runs.created_at, runs.watched_until
  ), freed AS (
    UPDATE threads
    SET status = CASE WHEN first.run_id IS NULL THEN thread_statuses[ended.i] ELSE 'busy' END,
        running_run_id = NULL,
        error = CASE
          WHEN statuses[ended.i] = 'pending' THEN threads.error
          -- The run was refused, and the thread waits as before.
          WHEN statuses[ended.i] = 'error' AND thread_statuses[ended.i] <> 'error' THEN NULL
          ELSE errors[ended.i] END,
        -- If a run broke off before its thread's state was read, the earlier interrupts stay.
        interrupts = CASE WHEN statuses[ended.i] = 'success' THEN thread_interrupts[ended.i]
          ELSE coalesce(thread_interrupts[ended.i], threads.interrupts) END,
        ready_at = first.ready_at, ready_run_id = first.run_id, ready_graph_id = first.graph_id,
        ready_caller = coalesce(first.caller, ''),
        updated_at = now(), state_updated_at = now()
    FROM ended
    LEFT JOIN LATERAL (
      SELECT ended.run_id, ended.graph_id, ended.caller, ended.created_at, now() AS ready_at
      WHERE statuses[ended.i] = 'pending'
      UNION ALL
      (
        SELECT runs.run_id, runs.graph_id, runs.caller, runs.created_at,
          greatest(now(), runs.created_at)
        FROM runs
        WHERE runs.thread_id = thread_ids[ended.i] AND runs.status = 'pending'
          AND runs.created_at > ended.created_at - interval '5 seconds'
        ORDER BY runs.created_at, runs.run_id
        LIMIT 1
      )
      ORDER BY created_at, run_id
      LIMIT 1
    ) AS first ON true
    WHERE threads.thread_id = ANY (ARRAY[thread_ids[ended.i]])
    RETURNING ended.i, threads.ready_at, ended.watched_until
  )
  SELECT json_agg(json_build_array(statuses[i], coalesce(ready_at <= clock_timestamp(), false),
      watched_until IS NOT NULL, NULL) ORDER BY i)
  INTO results FROM freed;

  IF results IS NULL OR json_array_length(results) < cardinality(run_ids) THEN
    -- The status of each run, to tell committed ends (of this try, or of one whose answer was lost)
    -- from lost runs. Also returns whether a run of the thread may be claimed, whether another
    -- process has ever watched the run, and how the run was asked to stop.
    SELECT json_agg(json_build_array(run.status, coalesce(run.ready_at <= clock_timestamp(), false),
        run.watched_until IS NOT NULL, run.cancel_action) ORDER BY i)
    INTO results
    FROM unnest(run_ids) WITH ORDINALITY AS given (run_id, i)
    LEFT JOIN LATERAL (
      SELECT status, watched_until, cancel_action,
        (SELECT ready_at FROM threads WHERE threads.thread_id = runs.thread_id) AS ready_at
      FROM runs
      WHERE runs.run_id = given.run_id AND runs.attempt = attempts[i]
      LIMIT 1
    ) AS run ON true;
  END IF;
  RETURN results;
END $$

-- name: headrace_start_runs_2
CREATE OR REPLACE FUNCTION headrace_start_runs_2(
  run_ids uuid[], thread_ids text[], tenants text[], owners text[], temporary bool[],
  creates bool[], assistant_ids uuid[], assistants_updated_at text[], graph_ids text[],
  process_ids uuid[], multitask_strategies text[], run_metadata jsonb[], kwargs jsonb[],
  thread_configs jsonb[], request_ids text[], callers text[], traceparents text[], spent uuid[]
) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  changed bigint[];
  left_behind bigint[];
  barred bigint[];
  taken bigint[];
  locked bigint[];
  locked_metadata jsonb[];
  locked_watched timestamptz[];
  results json;
BEGIN
  -- A run does not start if its assistant has changed: the process may have read the assistant long
  -- ago.
  SELECT array_agg(i) INTO changed
  FROM unnest(assistants_updated_at) WITH ORDINALITY AS given (updated_at, i)
  WHERE given.updated_at IS NOT NULL AND given.updated_at::timestamptz IS DISTINCT FROM (
    SELECT assistants.updated_at FROM assistants
    WHERE assistants.assistant_id = assistant_ids[i]);
  -- Nor if its process is left behind: the run is to be queued, as on a busy thread.
  SELECT array_agg(i) INTO left_behind
  FROM unnest(process_ids) WITH ORDINALITY AS given (process_id, i)
  WHERE (SELECT headrace_left_behind_1(processes.timeline) FROM processes
    WHERE processes.process_id = given.process_id);
  left_behind := coalesce(left_behind, '{}');
  -- Nor if an earlier request with its idempotency key has made it, and it is gone.
  barred := coalesce(changed, '{}');
  SELECT barred || coalesce(array_agg(i), '{}') INTO barred
  FROM unnest(left_behind) AS given (i) WHERE i <> ALL (barred);
  IF spent IS NOT NULL THEN
    SELECT barred || array_agg(i) INTO barred
    FROM unnest(run_ids) WITH ORDINALITY AS given (run_id, i)
    WHERE run_id = ANY (spent) AND i <> ALL (barred);
  END IF;

  -- For if_not_exists=create, stateless runs and /chat. A new thread belongs to its run from the
  -- beginning, so it needs no lock and no update.
  IF true = ANY (creates) THEN
    WITH made AS (
      INSERT INTO threads (
        thread_id, tenant, owner, temporary, metadata, status, running_run_id, config)
      SELECT DISTINCT ON (thread_id) thread_id, tenants[i], owners[i], temporary[i],
        jsonb_build_object('graph_id', graph_ids[i], 'assistant_id', assistant_ids[i]::text),
        CASE WHEN i = ANY (barred) THEN 'idle' ELSE 'busy' END,
        CASE WHEN i = ANY (barred) THEN NULL ELSE run_ids[i] END,
        CASE WHEN i = ANY (barred) THEN '{}' ELSE thread_configs[i] END
      FROM unnest(thread_ids) WITH ORDINALITY AS given (thread_id, i)
      WHERE creates[i]
      ORDER BY thread_id, i
      ON CONFLICT DO NOTHING
      RETURNING running_run_id
    )
    SELECT array_agg(given.i) INTO taken
    FROM made JOIN unnest(run_ids) WITH ORDINALITY AS given (run_id, i)
      ON given.run_id = made.running_run_id;
  END IF;
  taken := coalesce(taken, '{}');

  IF cardinality(taken) + cardinality(barred) < cardinality(run_ids) THEN
    -- Locks the other threads, and remembers those that no run has, if no run may be claimed on
    -- them now. Skips threads that another transaction has locked. So a batch of starts never waits
    -- for these locks, and takes them only after its other waits. If several runs want one thread,
    -- the first run gets it.
    SELECT array_agg(i) INTO locked
    FROM (
      SELECT DISTINCT ON (given.thread_id) given.i, thread.running_run_id, thread.ready_at
      FROM (
        SELECT i, thread_id FROM unnest(thread_ids) WITH ORDINALITY AS numbered (thread_id, i)
        WHERE i <> ALL (taken) AND i <> ALL (barred)
        ORDER BY thread_id, i
      ) AS given
      CROSS JOIN LATERAL (
        SELECT running_run_id, ready_at FROM threads
        WHERE threads.thread_id = given.thread_id AND threads.tenant = tenants[given.i]
        FOR NO KEY UPDATE SKIP LOCKED
      ) AS thread
      ORDER BY given.thread_id, given.i
    ) AS candidate
    WHERE running_run_id IS NULL AND (ready_at IS NULL OR ready_at > clock_timestamp());

    -- The thread's metadata gets the graph, because thread lists filter on it.
    WITH held AS (
      UPDATE threads
      SET status = 'busy', running_run_id = run_ids[i], updated_at = now(),
          ready_at = NULL, ready_run_id = NULL, ready_graph_id = NULL, ready_caller = '',
          metadata = threads.metadata || jsonb_build_object(
            'graph_id', graph_ids[i], 'assistant_id', assistant_ids[i]::text),
          config = thread_configs[i]
      FROM unnest(locked) AS given (i)
      WHERE threads.thread_id = ANY (ARRAY[thread_ids[i]])
      RETURNING i, threads.metadata, threads.watched_until
    )
    SELECT array_agg(held.i), array_agg(held.metadata), array_agg(held.watched_until)
    INTO locked, locked_metadata, locked_watched FROM held;
  END IF;

  -- The run's metadata contains the thread's. A process that watches the thread watches the run
  -- from its first event. Nothing is stored yet for a fresh thread.
  WITH made AS (
    SELECT i, NULL::timestamptz AS watched_until,
      jsonb_build_object('graph_id', graph_ids[i], 'assistant_id', assistant_ids[i]::text)
        || run_metadata[i] AS stored
    FROM unnest(taken) AS given (i)
    UNION ALL
    SELECT i, watched_until, thread_metadata || run_metadata[i]
    FROM unnest(locked, locked_metadata, locked_watched)
      AS given (i, thread_metadata, watched_until)
  ), inserted AS (
    INSERT INTO runs (
      run_id, thread_id, assistant_id, graph_id, tenant, owner, status, attempt, process_id,
      multitask_strategy, metadata, kwargs, request_id, caller, traceparent, watched_until,
      started_at)
    SELECT
      run_ids[i], thread_ids[i], assistant_ids[i], graph_ids[i], tenants[i], owners[i], 'running',
      1, process_ids[i], multitask_strategies[i], stored, kwargs[i], request_ids[i],
      callers[i], traceparents[i], watched_until, now()
    FROM made
  )
  SELECT json_agg(json_build_array(true, true, false, 1, stored::text,
      coalesce(watched_until > now(), false),
      (SELECT true FROM checkpoints WHERE checkpoints.thread_id = thread_ids[i] LIMIT 1) IS NULL)
    ORDER BY i)
  INTO results FROM made;

  IF results IS NULL OR json_array_length(results) < cardinality(run_ids) THEN
    -- The result of each start, made by this try or by an earlier try whose answer was lost.
    SELECT json_agg(json_build_array(
        thread.thread_id IS NOT NULL,
        thread.running_run_id IS NOT NULL OR i = ANY (left_behind)
          OR coalesce(thread.ready_at <= clock_timestamp(), false),
        i = ANY (coalesce(changed, '{}')),
        run.attempt, run.metadata::text, coalesce(run.watched_until > now(), false),
        (SELECT true FROM checkpoints WHERE checkpoints.thread_id = given.thread_id
          LIMIT 1) IS NULL)
      ORDER BY i)
    INTO results
    FROM unnest(thread_ids) WITH ORDINALITY AS given (thread_id, i)
    LEFT JOIN LATERAL (
      SELECT threads.thread_id, running_run_id, ready_at FROM threads
      WHERE threads.thread_id = given.thread_id AND threads.tenant = tenants[i]
      LIMIT 1
    ) AS thread ON true
    LEFT JOIN LATERAL (
      SELECT attempt, runs.metadata, watched_until FROM runs
      WHERE runs.run_id = run_ids[i] AND runs.process_id = process_ids[i]
      LIMIT 1
    ) AS run ON true;
  END IF;
  RETURN results;
END $$

-- name: headrace_flush_2
CREATE OR REPLACE FUNCTION headrace_flush_2(
  lock_timeout text DEFAULT NULL, transaction_timeout text DEFAULT NULL,
  process_keys bigint[] DEFAULT NULL, held_thread_ids text[] DEFAULT NULL,
  token_run_ids uuid[] DEFAULT NULL, token_attempts int[] DEFAULT NULL,
  token_process_ids uuid[] DEFAULT NULL, token_endings text[] DEFAULT NULL,
  blob_tokens int[] DEFAULT NULL, blob_thread_ids text[] DEFAULT NULL,
  blob_namespaces text[] DEFAULT NULL, blob_channels text[] DEFAULT NULL,
  blob_versions text[] DEFAULT NULL, blob_types text[] DEFAULT NULL,
  blob_values bytea[] DEFAULT NULL,
  checkpoint_tokens int[] DEFAULT NULL, checkpoint_thread_ids text[] DEFAULT NULL,
  checkpoint_namespaces text[] DEFAULT NULL, checkpoint_ids text[] DEFAULT NULL,
  checkpoint_parent_ids text[] DEFAULT NULL, checkpoint_values jsonb[] DEFAULT NULL,
  checkpoint_metadata jsonb[] DEFAULT NULL,
  write_tokens int[] DEFAULT NULL, write_thread_ids text[] DEFAULT NULL,
  write_namespaces text[] DEFAULT NULL, write_checkpoint_ids text[] DEFAULT NULL,
  write_task_ids text[] DEFAULT NULL, write_idx int[] DEFAULT NULL,
  write_task_paths text[] DEFAULT NULL, write_channels text[] DEFAULT NULL,
  write_types text[] DEFAULT NULL, write_values bytea[] DEFAULT NULL,
  write_replaces bool[] DEFAULT NULL,
  event_tokens int[] DEFAULT NULL, event_run_ids uuid[] DEFAULT NULL,
  event_ids bigint[] DEFAULT NULL, event_attempts int[] DEFAULT NULL,
  event_names text[] DEFAULT NULL, event_data bytea[] DEFAULT NULL,
  usage_tokens int[] DEFAULT NULL, usage_run_ids uuid[] DEFAULT NULL,
  usage_attempts int[] DEFAULT NULL, usage_models text[] DEFAULT NULL,
  usage_calls int[] DEFAULT NULL, usage_input_tokens bigint[] DEFAULT NULL,
  usage_output_tokens bigint[] DEFAULT NULL, usage_cached_tokens bigint[] DEFAULT NULL,
  usage_reasoning_tokens bigint[] DEFAULT NULL,
  end_run_ids uuid[] DEFAULT NULL, end_thread_ids text[] DEFAULT NULL,
  end_attempts int[] DEFAULT NULL, end_process_ids uuid[] DEFAULT NULL,
  end_statuses text[] DEFAULT NULL, end_thread_statuses text[] DEFAULT NULL,
  end_errors jsonb[] DEFAULT NULL, end_interrupts jsonb[] DEFAULT NULL,
  end_notes jsonb[] DEFAULT NULL,
  start_run_ids uuid[] DEFAULT NULL, start_thread_ids text[] DEFAULT NULL,
  start_tenants text[] DEFAULT NULL, start_owners text[] DEFAULT NULL,
  start_temporary bool[] DEFAULT NULL, start_creates bool[] DEFAULT NULL,
  start_assistant_ids uuid[] DEFAULT NULL, start_assistants_updated_at text[] DEFAULT NULL,
  start_graph_ids text[] DEFAULT NULL, start_process_ids uuid[] DEFAULT NULL,
  start_multitask_strategies text[] DEFAULT NULL, start_metadata jsonb[] DEFAULT NULL,
  start_kwargs jsonb[] DEFAULT NULL, start_thread_configs jsonb[] DEFAULT NULL,
  start_request_ids text[] DEFAULT NULL, start_callers text[] DEFAULT NULL,
  start_traceparents text[] DEFAULT NULL, start_spent uuid[] DEFAULT NULL
) RETURNS text LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  process_key bigint;
  stale bigint[];
  lost bigint[];
  ends json;
  starts json;
BEGIN
  -- A stricter isolation level would use one snapshot for all statements, from before the locks.
  -- The caller then sends the call in a transaction of the right level.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'a flush needs READ COMMITTED' USING ERRCODE = 'HR001';
  END IF;

  -- transaction_timeout ends a flush that waits for too long while its client may be gone; Postgres
  -- 17 and newer have it.
  IF lock_timeout IS NOT NULL THEN
    lock_timeout := set_config('lock_timeout', lock_timeout, true);
    IF current_setting('server_version_num')::int >= 170000 THEN
      transaction_timeout := set_config('transaction_timeout', transaction_timeout, true);
    END IF;
  END IF;

  -- The locks of the fence have statements of their own: the snapshots of later statements are
  -- younger than the locks.
  IF process_keys IS NOT NULL THEN
    FOREACH process_key IN ARRAY process_keys LOOP
      PERFORM pg_advisory_xact_lock_shared(process_key);
    END LOOP;
  END IF;

  -- For large values, which take long to write. A deletion of one of these threads waits until the
  -- values are written, and then deletes them too. This comes before the tokens: so they show that
  -- a deleted thread has no run any more.
  IF held_thread_ids IS NOT NULL THEN
    PERFORM FROM threads WHERE thread_id = ANY (held_thread_ids) ORDER BY thread_id FOR KEY SHARE;
  END IF;

  -- Remembers the numbers of tokens for which nothing is written. Their runs are not executed by
  -- this process any more, or the process is left behind. If an earlier try of this flush has ended
  -- the run, its answer was lost,
  -- but its rows are committed. Other tokens are lost.
  IF token_run_ids IS NOT NULL THEN
    SELECT array_agg(i) FILTER (WHERE status IS DISTINCT FROM 'running'),
      array_agg(i) FILTER (WHERE status IS NULL)
    INTO stale, lost
    FROM unnest(token_run_ids) WITH ORDINALITY AS token (run_id, i)
    LEFT JOIN LATERAL (
      SELECT runs.status FROM runs
      WHERE runs.run_id = token.run_id AND runs.attempt = token_attempts[i]
        AND runs.process_id = token_process_ids[i]
        AND runs.status IN ('running', token_endings[i])
        AND NOT (
          SELECT processes.lost OR headrace_left_behind_1(processes.timeline) FROM processes
          WHERE processes.process_id = token_process_ids[i])
      LIMIT 1
    ) AS held ON true;
  END IF;
  stale := coalesce(stale, '{}');

  -- LangGraph's statements, for many rows at once. Rows outside of a run have token 0.
  IF blob_tokens IS NOT NULL THEN
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT blob_thread_ids[i], blob_namespaces[i], blob_channels[i], blob_versions[i],
      blob_types[i], blob_values[i]
    FROM unnest(blob_tokens) WITH ORDINALITY AS given (token, i)
    WHERE token <> ALL (stale)
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
  END IF;
  IF checkpoint_tokens IS NOT NULL THEN
    INSERT INTO checkpoints (
      thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT checkpoint_thread_ids[i], checkpoint_namespaces[i], checkpoint_ids[i],
      checkpoint_parent_ids[i], checkpoint_values[i], checkpoint_metadata[i]
    FROM unnest(checkpoint_tokens) WITH ORDINALITY AS given (token, i)
    WHERE token <> ALL (stale)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
    DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata;
  END IF;
  IF false = ANY (write_replaces) THEN
    INSERT INTO checkpoint_writes (
      thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT write_thread_ids[i], write_namespaces[i], write_checkpoint_ids[i], write_task_ids[i],
      write_task_paths[i], write_idx[i], write_channels[i], write_types[i], write_values[i]
    FROM unnest(write_tokens) WITH ORDINALITY AS given (token, i)
    WHERE token <> ALL (stale) AND NOT write_replaces[i]
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
  END IF;
  IF true = ANY (write_replaces) THEN
    INSERT INTO checkpoint_writes (
      thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT write_thread_ids[i], write_namespaces[i], write_checkpoint_ids[i], write_task_ids[i],
      write_task_paths[i], write_idx[i], write_channels[i], write_types[i], write_values[i]
    FROM unnest(write_tokens) WITH ORDINALITY AS given (token, i)
    WHERE token <> ALL (stale) AND write_replaces[i]
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    DO UPDATE SET channel = excluded.channel, type = excluded.type, blob = excluded.blob;
  END IF;

  -- Events for readers in other processes, and for later readers. A repeated flush changes nothing.
  IF event_tokens IS NOT NULL THEN
    INSERT INTO run_events (run_id, event_id, attempt, event, data)
    SELECT event_run_ids[i], event_ids[i], event_attempts[i], event_names[i], event_data[i]
    FROM unnest(event_tokens) WITH ORDINALITY AS given (token, i)
    WHERE token <> ALL (stale)
    ON CONFLICT (run_id, event_id) DO NOTHING;
  END IF;

  -- The figures of each attempt are absolute and only rise, so an earlier try of this flush does no
  -- harm. The row of the run says whose they are.
  IF usage_tokens IS NOT NULL THEN
    INSERT INTO run_usage (
      run_id, attempt, model, tenant, owner, thread_id, assistant_id, graph_id, calls, input_tokens,
      output_tokens, cached_tokens, reasoning_tokens)
    SELECT usage_run_ids[i], usage_attempts[i], usage_models[i], run.tenant, run.owner,
      run.thread_id, run.assistant_id, run.graph_id, usage_calls[i], usage_input_tokens[i],
      usage_output_tokens[i], usage_cached_tokens[i], usage_reasoning_tokens[i]
    FROM unnest(usage_tokens) WITH ORDINALITY AS given (token, i)
    CROSS JOIN LATERAL (
      SELECT tenant, owner, thread_id, assistant_id, graph_id FROM runs
      WHERE runs.run_id = usage_run_ids[i]
      LIMIT 1
    ) AS run
    WHERE token <> ALL (stale)
    ON CONFLICT (run_id, attempt, model) DO UPDATE
    SET calls = greatest(run_usage.calls, excluded.calls),
        input_tokens = greatest(run_usage.input_tokens, excluded.input_tokens),
        output_tokens = greatest(run_usage.output_tokens, excluded.output_tokens),
        cached_tokens = greatest(run_usage.cached_tokens, excluded.cached_tokens),
        reasoning_tokens = greatest(run_usage.reasoning_tokens, excluded.reasoning_tokens);
  END IF;

  -- After all writes of their runs.
  IF end_run_ids IS NOT NULL THEN
    ends := headrace_end_runs_2(
      end_run_ids, end_thread_ids, end_attempts, end_process_ids, end_statuses, end_thread_statuses,
      end_errors, end_interrupts, end_notes);
  END IF;
  -- Last, because they never wait for the lock of an existing thread: a flush that waits has locked
  -- no thread for a start.
  IF start_run_ids IS NOT NULL THEN
    starts := headrace_start_runs_2(
      start_run_ids, start_thread_ids, start_tenants, start_owners, start_temporary, start_creates,
      start_assistant_ids, start_assistants_updated_at, start_graph_ids, start_process_ids,
      start_multitask_strategies, start_metadata, start_kwargs, start_thread_configs,
      start_request_ids, start_callers, start_traceparents, start_spent);
  END IF;

  IF lost IS NULL AND ends IS NULL AND starts IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN json_build_object('lost', lost, 'ends', ends, 'starts', starts)::text;
END $$
