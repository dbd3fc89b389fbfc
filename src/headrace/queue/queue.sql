-- The statements that change which process executes which run, except starts and ends: those are in
-- db/flush_2.sql.
--
-- The law (docs/architecture.md): lock in one statement, act in the next. Under READ COMMITTED, the
-- snapshot of a statement is older than the locks that it takes. So the first statement notes the
-- locked threads in the transaction-local setting headrace.locked, and the second statement touches
-- only these. "Remembers" below means: in headrace.locked, if no other setting is named.
--
-- Lock order: the lock of a process, keys, crons, threads, runs. A statement that may wait locks or
-- makes threads in the order of their ids. A statement that skips locked threads may use any order.
-- The deletion of a thread locks the thread's crons after it. So here no statement waits for a cron.

-- name: create_threads_if_absent
-- For runs that are to be queued. Inserts the metadata that queue_runs_on_locked_threads will write,
-- so that its update is a HOT update. A thread also has the metadata that the client gave the run,
-- and those that its caller's filter wants: who makes a thread sees it. Checkpoints without a thread
-- keep it from being made (:may_make).
INSERT INTO threads (thread_id, tenant, owner, temporary, metadata)
SELECT thread_id, tenant, owner, temporary, coalesce(given.metadata, '{}') || jsonb_build_object(
  'graph_id', graph_id, 'assistant_id', assistant_id::text)
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[], %(temporary)s::bool[],
    %(graph_ids)s::text[], %(assistant_ids)s::uuid[], %(metadata)s::jsonb[], %(takes_strays)s::bool[])
  AS given (thread_id, tenant, owner, temporary, graph_id, assistant_id, metadata, takes_strays)
WHERE :may_make(given)
ORDER BY thread_id
ON CONFLICT DO NOTHING

-- name: lock_keys
-- Locks the idempotency keys of requests, before their threads are locked. Remembers in
-- headrace.spent the runs that must not be made: an earlier request has made them, and they are
-- gone.
WITH locked AS MATERIALIZED (
  SELECT keys.run_id, keys.thread_id
  FROM idempotency_keys AS keys
  JOIN unnest(%(key_tenants)s::text[], %(key_routes)s::text[], %(keys)s::text[])
    AS given (tenant, route, key) USING (tenant, route, key)
  ORDER BY keys.tenant, keys.route, keys.key
  FOR NO KEY UPDATE OF keys
)
SELECT set_config('headrace.spent', coalesce((
  SELECT json_agg(run_id)::text FROM locked
  WHERE thread_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = locked.run_id)
), '[]'), true)

-- name: confirm_keys
-- Confirms the keys whose runs exist now, in the transaction that made the runs.
UPDATE idempotency_keys AS keys SET thread_id = runs.thread_id
FROM unnest(%(key_tenants)s::text[], %(key_routes)s::text[], %(keys)s::text[],
    %(key_run_ids)s::uuid[])
  AS given (tenant, route, key, run_id)
JOIN runs ON runs.run_id = given.run_id
WHERE keys.tenant = given.tenant AND keys.route = given.route AND keys.key = given.key
  AND keys.run_id = given.run_id AND keys.thread_id IS NULL

-- name: lock_scope
-- For callers that do not see all threads of their tenant, after their threads were made if they
-- were to be. Holds each thread that the caller sees: nobody deletes it, so nobody else makes a thread
-- of this id before the run is made; and the owner of a thread never changes. Remembers in
-- headrace.spent the other runs, which must not be made. Returns those whose thread another caller
-- has; a thread that is neither held nor foreign is gone, or locked by its deletion.
WITH held AS MATERIALIZED (
  SELECT threads.thread_id, given.run_id
  FROM threads
  JOIN unnest(%(scope_run_ids)s::uuid[], %(scope_thread_ids)s::text[], %(scope_tenants)s::text[],
      %(scope_owners)s::text[], %(scope_filters)s::jsonb[])
    AS given (run_id, thread_id, tenant, owner, filter)
    ON given.thread_id = threads.thread_id AND :visible(threads, given)
  ORDER BY threads.thread_id
  FOR KEY SHARE OF threads SKIP LOCKED
), unseen AS MATERIALIZED (
  SELECT given.run_id, EXISTS (
    SELECT FROM threads
    WHERE threads.thread_id = given.thread_id AND NOT :visible(threads, given)) AS is_foreign
  FROM unnest(%(scope_run_ids)s::uuid[], %(scope_thread_ids)s::text[], %(scope_tenants)s::text[],
      %(scope_owners)s::text[], %(scope_filters)s::jsonb[])
    AS given (run_id, thread_id, tenant, owner, filter)
  WHERE given.run_id NOT IN (SELECT run_id FROM held)
)
SELECT coalesce((SELECT json_agg(run_id) FROM unseen WHERE is_foreign), '[]')::text,
  coalesce((SELECT json_agg(run_id) FROM unseen), '[]')::text,
  set_config('headrace.spent', (
    coalesce(nullif(current_setting('headrace.spent', true), ''), '[]')::jsonb
    || coalesce((SELECT jsonb_agg(run_id) FROM unseen), '[]')
  )::text, true)

-- name: lock_slots
-- Locks the crons whose slots are to get their runs. A cron that another transaction has locked is
-- skipped: nothing waits for it. Remembers in headrace.spent, beside the runs of spent keys, the
-- runs that must not be made: their slots have their runs, or their crons were changed. If several
-- runs of this flush are for one slot, the one with the least id is made. The arrays leave the
-- planner one way to find the crons: the primary key.
WITH locked AS MATERIALIZED (
  SELECT cron_id, next_run_date
  FROM crons
  WHERE cron_id = ANY (%(slot_cron_ids)s::uuid[]) AND enabled
    AND next_run_date = ANY (%(slot_times)s::text[]::timestamptz[])
  ORDER BY cron_id
  FOR NO KEY UPDATE SKIP LOCKED
), free AS (
  SELECT DISTINCT ON (locked.cron_id) given.run_id
  FROM locked
  JOIN unnest(%(slot_cron_ids)s::uuid[], %(slot_times)s::text[], %(slot_run_ids)s::uuid[])
    AS given (cron_id, at, run_id)
    ON given.cron_id = locked.cron_id AND given.at::timestamptz = locked.next_run_date
  ORDER BY locked.cron_id, given.run_id
), spent AS MATERIALIZED (
  SELECT coalesce(json_agg(run_id), '[]') AS run_ids
  FROM unnest(%(slot_run_ids)s::uuid[]) AS run_id
  WHERE run_id NOT IN (SELECT run_id FROM free)
)
SELECT run_ids::text, set_config('headrace.spent', (
  coalesce(nullif(current_setting('headrace.spent', true), ''), '[]')::jsonb || run_ids::jsonb
)::text, true)
FROM spent

-- name: move_slots
-- Moves crons whose slots have their runs now to their next slots, in the transaction that made the
-- runs.
UPDATE crons
SET next_run_date = given.next_at::timestamptz, look_at = given.next_at::timestamptz
FROM unnest(%(slot_cron_ids)s::uuid[], %(slot_times)s::text[], %(slot_run_ids)s::uuid[],
    %(slot_next_times)s::text[])
  AS given (cron_id, at, run_id, next_at)
JOIN runs ON runs.run_id = given.run_id AND runs.run_id = ANY (%(slot_run_ids)s::uuid[])
WHERE crons.cron_id = given.cron_id AND crons.cron_id = ANY (%(slot_cron_ids)s::uuid[])
  AND crons.enabled
  AND crons.next_run_date = given.at::timestamptz

-- name: overdue_crons
-- Crons whose slots have passed without their runs, up to a bound, and for how long the first one.
-- While a process has taken a cron, it is to be looked at a moment later.
SELECT count(*), coalesce(max(extract(epoch FROM now() - next_run_date)), 0)::float8
FROM (
  SELECT next_run_date FROM crons
  WHERE look_at <= now() + make_interval(secs => %(seconds)s::float8) AND next_run_date <= now()
  LIMIT %(bound)s
) AS overdue

-- name: overdue_webhooks
-- Messages whose calls should have begun, up to a bound, and for how long the first one. What is
-- being sent, or waits for its next call, is due later.
SELECT count(*), coalesce(max(extract(epoch FROM now() - due_at)), 0)::float8
FROM (
  SELECT due_at FROM webhook_deliveries
  WHERE state = 'due' AND due_at <= now()
  ORDER BY due_at
  LIMIT %(bound)s
) AS overdue

-- name: start_keyed_runs
-- Starts runs whose keys and threads are locked, as a flush starts other runs. A thread that must
-- not take checkpoints without a thread (:may_make) is not made.
SELECT headrace_flush_2(
  start_run_ids => %(start_run_ids)s, start_thread_ids => %(start_thread_ids)s,
  start_tenants => %(start_tenants)s, start_owners => %(start_owners)s,
  start_temporary => %(start_temporary)s,
  start_creates => ARRAY(
    SELECT creates AND :may_make(given)
    FROM unnest(
        %(start_creates)s::bool[], %(start_thread_ids)s::text[], %(start_takes_strays)s::bool[])
      WITH ORDINALITY AS given (creates, thread_id, takes_strays, number)
    ORDER BY number),
  start_assistant_ids => %(start_assistant_ids)s,
  start_assistants_updated_at => %(start_assistants_updated_at)s,
  start_graph_ids => %(start_graph_ids)s, start_process_ids => %(start_process_ids)s,
  start_multitask_strategies => %(start_multitask_strategies)s,
  start_metadata => %(start_metadata)s, start_kwargs => %(start_kwargs)s,
  start_thread_configs => %(start_thread_configs)s, start_request_ids => %(start_request_ids)s,
  start_callers => %(start_callers)s, start_traceparents => %(start_traceparents)s,
  start_spent => ARRAY(
    SELECT json_array_elements_text(
      coalesce(nullif(current_setting('headrace.spent', true), ''), '[]')::json)::uuid))

-- name: lock_threads_to_queue_on
-- Remembers the threads, also those that a run has. Skips locked threads, as a start does.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads
    JOIN unnest(%(thread_ids)s::text[], %(tenants)s::text[]) AS wanted (thread_id, tenant)
      ON wanted.thread_id = threads.thread_id AND wanted.tenant = threads.tenant
    ORDER BY threads.thread_id
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
), '[]'), true)

-- name: remember_unfinished_runs_of_thread
-- For interrupt and rollback. Remembers in headrace.cancelled the unfinished runs before a new run
-- on a locked thread. Remembers none if an earlier try, whose answer was lost, has queued the new
-- run, or if the new run will not be made: its assistant has changed, or its slot has its run.
SELECT set_config('headrace.cancelled', coalesce((
  SELECT json_agg(run_id)::text
  FROM (
    SELECT run_id FROM runs WHERE thread_id = %(thread_id)s AND status = 'pending'
    UNION ALL
    SELECT run_id FROM runs WHERE thread_id = %(thread_id)s AND status = 'running'
  ) AS unfinished
  WHERE %(thread_id)s IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = %(run_id)s)
    AND (NOT %(checked)s OR %(run_id)s::text NOT IN (
      SELECT json_array_elements_text(current_setting('headrace.spent')::json)))
    AND (%(assistant_updated_at)s::timestamptz IS NULL OR EXISTS (
      SELECT FROM assistants WHERE assistants.assistant_id = %(assistant_id)s
        AND assistants.updated_at = %(assistant_updated_at)s))
), '[]'), true)

-- name: queue_runs_on_locked_threads
-- Inserts one pending run; each run of a batch has a statement of its own. A thread goes on naming
-- the graph that it was executed by last, with which its state is read, until the run starts.
WITH queued AS (
  INSERT INTO runs (
    run_id, thread_id, assistant_id, graph_id, tenant, owner, status, multitask_strategy, metadata,
    kwargs, request_id, caller, traceparent, created_at)
  SELECT
    given.run_id, given.thread_id, given.assistant_id, given.graph_id, given.tenant, given.owner,
    'pending', given.multitask_strategy, threads.metadata || given.metadata, given.kwargs,
    given.request_id, given.caller, given.traceparent,
    -- The time under the lock of the thread: a run that is queued later gets a later time.
    clock_timestamp() + make_interval(secs => given.after_milliseconds / 1000.0)
  FROM unnest(%(run_ids)s::uuid[], %(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[],
      %(assistant_ids)s::uuid[], %(graph_ids)s::text[], %(multitask_strategies)s::text[],
      %(metadata)s::jsonb[], %(kwargs)s::jsonb[], %(request_ids)s::text[],
      %(after_milliseconds)s::bigint[], %(assistants_updated_at)s::text[], %(callers)s::text[],
      %(traceparents)s::text[])
    AS given (run_id, thread_id, tenant, owner, assistant_id, graph_id, multitask_strategy,
      metadata, kwargs, request_id, after_milliseconds, assistant_updated_at, caller, traceparent)
  JOIN threads ON threads.thread_id = given.thread_id AND threads.tenant = given.tenant
  WHERE given.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    -- A run that is asked to stop is no reason to refuse the next run.
    AND (given.multitask_strategy <> 'reject' OR threads.status <> 'busy'
      OR NOT EXISTS (
        SELECT FROM runs AS running
        WHERE running.run_id = threads.running_run_id AND running.cancel_action IS NULL)
      AND NOT EXISTS (
        SELECT FROM runs AS waiting
        WHERE waiting.thread_id = threads.thread_id AND waiting.status = 'pending'
          AND waiting.cancel_action IS NULL))
    AND (NOT %(checked)s OR given.run_id::text NOT IN (
      SELECT json_array_elements_text(current_setting('headrace.spent')::json)))
    AND (given.assistant_updated_at IS NULL OR EXISTS (
      SELECT FROM assistants WHERE assistants.assistant_id = given.assistant_id
        AND assistants.updated_at = given.assistant_updated_at::timestamptz))
  ON CONFLICT (run_id) DO NOTHING
  RETURNING thread_id, graph_id, assistant_id
)
UPDATE threads
SET status = 'busy', updated_at = now(),
    metadata = CASE WHEN threads.metadata ? 'graph_id' THEN threads.metadata
      ELSE threads.metadata || jsonb_build_object(
        'graph_id', queued.graph_id, 'assistant_id', queued.assistant_id::text) END,
    config = given.thread_config
FROM queued
JOIN unnest(%(thread_ids)s::text[], %(thread_configs)s::jsonb[]) AS given (thread_id, thread_config)
  USING (thread_id)
WHERE threads.thread_id = queued.thread_id

-- name: queued_runs
-- The result for each run that was to be queued, and the run before it that is asked to stop.
SELECT threads.thread_id IS NOT NULL AS there, threads.status = 'busy' AS busy,
  given.assistant_updated_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM assistants WHERE assistants.assistant_id = given.assistant_id
      AND assistants.updated_at = given.assistant_updated_at::timestamptz) AS changed,
  runs.metadata, runs.created_at, replaced.run_id, replaced.cancel_action
FROM unnest(%(run_ids)s::uuid[], %(thread_ids)s::text[], %(tenants)s::text[],
    %(assistant_ids)s::uuid[], %(assistants_updated_at)s::text[])
  WITH ORDINALITY AS given (run_id, thread_id, tenant, assistant_id, assistant_updated_at, number)
LEFT JOIN threads ON threads.thread_id = given.thread_id AND threads.tenant = given.tenant
LEFT JOIN runs ON runs.run_id = given.run_id
LEFT JOIN runs AS replaced
  ON replaced.run_id = threads.running_run_id AND replaced.cancel_action IS NOT NULL
ORDER BY given.number

-- name: refresh_locked_threads
-- Follows every change to runs of locked threads. Writes the first pending run of a thread, and
-- since when it may be claimed. If a run has the thread, nothing is written. A thread without
-- unfinished runs gets the status that it had before them.
UPDATE threads
SET ready_at = CASE
      WHEN threads.ready_run_id = first.run_id THEN threads.ready_at ELSE first.ready_at END,
    ready_run_id = first.run_id,
    ready_graph_id = first.graph_id,
    ready_caller = coalesce(first.caller, ''),
    status = CASE
      WHEN first.run_id IS NOT NULL THEN 'busy'
      WHEN threads.status <> 'busy' THEN threads.status
      WHEN threads.interrupts <> '{}'
        AND coalesce(threads.error ->> 'error', 'UserInterrupt') = 'UserInterrupt' THEN 'interrupted'
      WHEN threads.error IS NOT NULL THEN 'error'
      ELSE 'idle' END
FROM json_array_elements_text(current_setting('headrace.locked')::json) AS locked (thread_id)
LEFT JOIN LATERAL (
  SELECT runs.run_id, runs.graph_id, runs.caller, greatest(now(), runs.created_at) AS ready_at
  FROM runs
  WHERE runs.thread_id = locked.thread_id AND runs.status = 'pending'
  ORDER BY runs.created_at, runs.run_id
  LIMIT 1
) AS first ON true
WHERE threads.thread_id = locked.thread_id AND threads.running_run_id IS NULL

-- name: lock_ready_threads
-- Remembers threads that may be claimed, first those that have been ready longest. Ready times
-- rise, so threads below the floor were claimed long ago. The floor skips their index entries,
-- which stay as long as an old snapshot is open. Skips suspects (see look_for_lost_runs): they are
-- claimed alone.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads
    WHERE ready_at >= %(floor)s::timestamptz AND ready_at <= now()
      AND running_run_id IS NULL
      AND ready_graph_id = ANY (%(graph_ids)s::text[])
      AND NOT EXISTS (
        SELECT FROM runs
        WHERE runs.run_id = threads.ready_run_id AND runs.failures >= %(suspect_failures)s
          AND runs.cancel_action IS NULL)
    ORDER BY ready_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
), '[]'), true)

-- name: ready_callers
-- The callers whose threads may be claimed; for each, how many threads (up to a limit), and when
-- the first of them became ready. Takes one step in the index for each caller, however many threads
-- a caller has. Skips an entry below the floor without reading its row. Locks nothing: the process
-- chooses the callers. A row without a caller only gives the time. Comparisons and order use pairs,
-- so that the planner cannot use threads_ready_at_idx: for a caller who came late, it would read
-- that index up to the caller's first thread.
WITH RECURSIVE callers (caller, number) AS (
  (
    SELECT ready_caller, 1
    FROM threads
    WHERE ready_caller >= %(since)s::text
      AND ready_at >= %(floor)s::timestamptz AND ready_at <= now()
    ORDER BY ready_caller
    LIMIT 1
  )
  UNION ALL
  SELECT next.ready_caller, callers.number + 1
  FROM callers
  CROSS JOIN LATERAL (
    SELECT threads.ready_caller
    FROM threads
    WHERE threads.ready_caller > callers.caller
      AND ready_at >= %(floor)s::timestamptz AND ready_at <= now()
    ORDER BY threads.ready_caller
    LIMIT 1
  ) AS next
  WHERE callers.number < %(bound)s
)
SELECT clock.now, callers.caller, ready.count, ready.first
FROM (SELECT now() AS now) AS clock
LEFT JOIN callers ON true
LEFT JOIN LATERAL (
  SELECT count(*) AS count, min(ready_at) AS first
  FROM (
    SELECT ready_at
    FROM threads
    WHERE (ready_caller, ready_at) >= (callers.caller, %(floor)s::timestamptz)
      AND (ready_caller, ready_at) <= (callers.caller, now())
      AND ready_at IS NOT NULL AND running_run_id IS NULL
      AND ready_graph_id = ANY (%(graph_ids)s::text[])
      AND NOT EXISTS (
        SELECT FROM runs
        WHERE runs.run_id = threads.ready_run_id AND runs.failures >= %(suspect_failures)s
          AND runs.status = 'pending' AND runs.cancel_action IS NULL)
    ORDER BY ready_caller, ready_at
    LIMIT %(limit)s
  ) AS found
) AS ready ON true
ORDER BY callers.caller

-- name: lock_ready_threads_of_callers
-- Remembers threads of each caller, as many as the caller has turns; first those that have been
-- ready longest. The floor of a caller is the time at which its first thread became ready.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT chosen.thread_id
    FROM unnest(%(callers)s::text[], %(floors)s::timestamptz[], %(turns)s::int[])
      AS given (caller, floor, turns)
    CROSS JOIN LATERAL (
      SELECT threads.thread_id
      FROM threads
      WHERE (ready_caller, ready_at) >= (given.caller, given.floor)
        AND (ready_caller, ready_at) <= (given.caller, now())
        AND ready_at IS NOT NULL AND running_run_id IS NULL
        AND ready_graph_id = ANY (%(graph_ids)s::text[])
        AND NOT EXISTS (
          SELECT FROM runs
          WHERE runs.run_id = threads.ready_run_id AND runs.failures >= %(suspect_failures)s
            AND runs.status = 'pending' AND runs.cancel_action IS NULL)
      ORDER BY ready_caller, ready_at
      LIMIT given.turns
      FOR NO KEY UPDATE OF threads SKIP LOCKED
    ) AS chosen
  ) AS candidate
), '[]'), true)

-- name: pending_runs_of_callers
SELECT caller, count(*) FROM runs WHERE status = 'pending' GROUP BY caller

-- name: look_for_lost_runs
-- Runs that wait, and whose process was lost. One that processes were lost with suspect_failures
-- times is a suspect, the others are rescued runs. Returns how many rescued runs may be claimed, how
-- long the first suspect has waited, how many processes execute a suspect alone, how many processes
-- there are, and how many of them are older than the process that asks. A rollback executes no
-- graph, so it is neither. "failures > 0" is for runs_suspected_idx: the planner cannot compare the
-- predicate of an index with a parameter.
WITH waiting AS MATERIALIZED (
  SELECT run_id, thread_id, failures >= %(suspect_failures)s AS suspect FROM runs
  WHERE failures > 0 AND status = 'pending' AND cancel_action IS NULL
  LIMIT 1000
), ready AS MATERIALIZED (
  SELECT count(*) FILTER (WHERE NOT suspect) AS rescued,
    min(threads.ready_at) FILTER (WHERE suspect) AS ready_at
  FROM waiting JOIN threads ON threads.thread_id = waiting.thread_id
  WHERE threads.ready_run_id = waiting.run_id AND threads.running_run_id IS NULL
    AND threads.ready_at <= now() AND threads.ready_graph_id = ANY (%(graph_ids)s::text[])
)
SELECT rescued, extract(epoch FROM now() - ready_at)::float8,
  (SELECT count(DISTINCT process_id) FROM runs
    WHERE failures > 0 AND failures >= %(suspect_failures)s AND status = 'running'
      AND started_at > now() - make_interval(
        secs => greatest(%(apart_seconds)s::float8, 2 * coalesce(lived_seconds, 0)))),
  (SELECT count(*) FROM processes WHERE NOT lost),
  (SELECT count(*) FROM processes WHERE NOT lost AND process_id < %(process_id)s)
FROM ready WHERE rescued > 0 OR ready_at IS NOT NULL

-- name: lock_threads_of_rescued
-- Remembers threads of rescued runs that are no suspects, first those of the oldest runs.
WITH rescued AS MATERIALIZED (
  SELECT run_id, thread_id, created_at FROM runs
  WHERE failures > 0 AND failures < %(suspect_failures)s
    AND status = 'pending' AND cancel_action IS NULL
  LIMIT 1000
)
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM rescued JOIN threads ON threads.thread_id = rescued.thread_id
    WHERE threads.ready_run_id = rescued.run_id AND threads.running_run_id IS NULL
      AND threads.ready_at <= now() AND threads.ready_graph_id = ANY (%(graph_ids)s::text[])
    ORDER BY rescued.created_at, rescued.run_id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
), '[]'), true)

-- name: lock_thread_of_suspect
-- Remembers the thread of the suspect that has been ready longest.
WITH suspects AS MATERIALIZED (
  SELECT run_id, thread_id FROM runs
  WHERE failures > 0 AND failures >= %(suspect_failures)s
    AND status = 'pending' AND cancel_action IS NULL
  LIMIT 1000
)
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM suspects JOIN threads ON threads.thread_id = suspects.thread_id
    WHERE threads.ready_run_id = suspects.run_id AND threads.running_run_id IS NULL
      AND threads.ready_at <= now() AND threads.ready_graph_id = ANY (%(graph_ids)s::text[])
    ORDER BY threads.ready_at
    LIMIT 1
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
), '[]'), true)

-- name: claim_runs_of_locked_threads
-- Also returns since when each run has waited for this attempt (a delay moves its created_at), and
-- how the attempt before this one ended. A process that is lost or left behind claims nothing.
WITH claimed AS (
  UPDATE runs
  SET status = 'running', attempt = attempt + 1, process_id = %(process_id)s, started_at = now(),
      updated_at = now(), watched_until = greatest(runs.watched_until, threads.watched_until)
  FROM threads
  WHERE threads.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND runs.run_id = threads.ready_run_id AND runs.status = 'pending'
    AND (SELECT lost OR headrace_left_behind_1(processes.timeline) FROM processes
      WHERE processes.process_id = %(process_id)s) IS NOT true
  RETURNING runs.*, threads.ready_at
), held AS (
  UPDATE threads
  SET status = 'busy', running_run_id = claimed.run_id, updated_at = now(),
      ready_at = NULL, ready_run_id = NULL, ready_graph_id = NULL, ready_caller = '',
      metadata = threads.metadata || jsonb_build_object(
        'graph_id', claimed.graph_id, 'assistant_id', claimed.assistant_id::text)
  FROM claimed
  WHERE threads.thread_id = claimed.thread_id
)
SELECT run_id, thread_id, assistant_id, graph_id, tenant, owner, multitask_strategy, kwargs, metadata,
  attempt, cancel_action, cancel_reason, cancel_note,
  coalesce(watched_until > now(), false) AS watched, request_id,
  lived_seconds, caller,
  greatest(0, extract(epoch FROM started_at - waits_since))::float8 AS queue_seconds,
  coalesce(earlier_attempts -> -1 ->> 'ended',
    CASE WHEN failures > 0 THEN 'lost' ELSE 'released' END) AS earlier_end,
  traceparent, waits_since,
  greatest(0, extract(epoch FROM started_at - created_at))::float8 AS age_seconds, ready_at
FROM claimed
CROSS JOIN LATERAL (
  SELECT CASE WHEN attempt = 1 THEN created_at ELSE ready_at END AS waits_since) AS wait
ORDER BY ready_at

-- name: lock_threads_of_cancelled
-- Remembers the threads of those runs that the caller sees.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads
    WHERE threads.thread_id IN (
      SELECT thread_id FROM runs
      WHERE run_id = ANY (%(run_ids)s::uuid[]) AND :visible_run(runs))
    ORDER BY threads.thread_id
    FOR NO KEY UPDATE OF threads
  ) AS candidate
), '[]'), true)

-- name: remember_cancelled
-- Remembers in headrace.cancelled those runs that the caller sees.
SELECT set_config('headrace.cancelled', coalesce((
  SELECT json_agg(run_id)::text FROM runs
  WHERE run_id = ANY (%(run_ids)s::uuid[]) AND :visible_run(runs)
    AND thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))
), '[]'), true)

-- name: cancel_remembered_runs
-- Stops pending and running runs, for interrupt, rollback or delete. For delete, another statement
-- later deletes the run. A pending run ends at once. For a rollback it is removed at once; but if
-- it may have left checkpoints, a process claims it and rolls it back. A running run is ended by
-- the process that has it. The row keeps the first reason, and the note that came with it.
WITH asked AS MATERIALIZED (
  SELECT value::uuid AS run_id
  FROM json_array_elements_text(current_setting('headrace.cancelled')::json)
), ended AS (
  UPDATE runs
  SET status = 'interrupted', cancel_action = 'interrupt', error = %(error)s, ended_at = now(),
      updated_at = now(), cancel_reason = coalesce(cancel_reason, %(reason)s),
      cancel_note = CASE WHEN cancel_reason IS NULL THEN %(note)s ELSE cancel_note END,
      cancel_asked_at = coalesce(cancel_asked_at, now())
  WHERE run_id IN (SELECT run_id FROM asked) AND status = 'pending'
    AND %(action)s <> 'rollback' AND cancel_action IS DISTINCT FROM 'rollback'
  RETURNING run_id, thread_id
), removed AS (
  DELETE FROM runs
  WHERE run_id IN (SELECT run_id FROM asked) AND status = 'pending' AND attempt = 0
    AND %(action)s = 'rollback'
  RETURNING run_id, thread_id
), marked AS (
  UPDATE runs
  SET cancel_action = CASE WHEN cancel_action = 'rollback' THEN cancel_action ELSE %(action)s END,
      updated_at = now(), cancel_reason = coalesce(cancel_reason, %(reason)s),
      cancel_note = CASE WHEN cancel_reason IS NULL THEN %(note)s ELSE cancel_note END,
      cancel_asked_at = coalesce(cancel_asked_at, now())
  WHERE run_id IN (SELECT run_id FROM asked)
    AND (status = 'running' OR (status = 'pending' AND attempt > 0 AND %(action)s = 'rollback'))
  RETURNING run_id, thread_id
)
SELECT runs.run_id, runs.thread_id, CASE
  WHEN runs.run_id IN (SELECT run_id FROM removed) THEN 'removed'
  WHEN runs.run_id IN (SELECT run_id FROM marked) THEN 'asked'
  WHEN runs.status = 'pending' AND runs.run_id NOT IN (SELECT run_id FROM ended) THEN 'asked'
  ELSE 'ended' END AS state
FROM runs JOIN asked USING (run_id)

-- name: runs_of_process
SELECT run_id, thread_id, attempt FROM runs
WHERE process_id = %(process_id)s AND status = 'running'

-- name: requests_to_processes
-- Requests of other processes about the runs that these processes execute: to stop, to store
-- events.
SELECT run_id, coalesce(watched_until > now(), false), cancel_action, cancel_reason, cancel_note
FROM runs
WHERE process_id = ANY (%(process_ids)s::uuid[]) AND status = 'running'
  AND (cancel_action IS NOT NULL OR watched_until > now())

-- name: remove_run_if_owned
-- Deletes a run for a rollback; the same transaction deletes its checkpoints.
WITH removed AS (
  DELETE FROM runs
  WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND process_id = %(process_id)s
    AND status = 'running'
    AND thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))
  RETURNING run_id, thread_id, cancel_action, cancel_reason, cancel_note
), forgotten AS (
  DELETE FROM run_events WHERE run_id IN (SELECT run_id FROM removed)
)
UPDATE threads
SET running_run_id = NULL, updated_at = now(), state_updated_at = now()
FROM removed
WHERE threads.thread_id = removed.thread_id
RETURNING removed.cancel_action, removed.cancel_reason, removed.cancel_note

-- name: stop_request_of_run
SELECT cancel_action, cancel_reason, cancel_note FROM runs
WHERE run_id = %(run_id)s AND cancel_action IS NOT NULL

-- name: keep_run_that_was_to_be_rolled_back
UPDATE runs SET cancel_action = 'interrupt', updated_at = now()
WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND process_id = %(process_id)s
  AND status = 'running'

-- name: lock_thread_of_run
-- For a rollback. Remembers the thread if the run has it.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT thread_id, running_run_id FROM threads WHERE thread_id = %(thread_id)s
    FOR NO KEY UPDATE
  ) AS candidate
  WHERE running_run_id = %(run_id)s
), '[]'), true)

-- name: delete_temporary_threads
-- Deletes temporary threads without unfinished runs, and remembers them. Without ``watched``, it
-- keeps threads of runs that another process watches now.
WITH gone AS (
  DELETE FROM threads
  WHERE thread_id = ANY (%(thread_ids)s::text[]) AND temporary AND status <> 'busy'
    AND (%(watched)s OR NOT EXISTS (
      SELECT 1 FROM runs WHERE runs.thread_id = threads.thread_id AND watched_until > now()))
  RETURNING thread_id
)
SELECT set_config('headrace.locked', coalesce((SELECT json_agg(thread_id)::text FROM gone), '[]'), true)

-- name: delete_checkpoints_of_locked
DELETE FROM checkpoints
WHERE thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))

-- name: delete_blobs_of_locked
DELETE FROM checkpoint_blobs
WHERE thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))

-- name: delete_writes_of_locked
DELETE FROM checkpoint_writes
WHERE thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))

-- name: abandoned_temporary_threads
-- Temporary threads of processes that died after the end of a stateless run, before its clean-up.
SELECT thread_id FROM threads
WHERE temporary AND status <> 'busy' AND updated_at < now() - make_interval(secs => %(seconds)s)
  AND thread_id > %(after)s
ORDER BY thread_id
LIMIT 100

-- name: register_process
INSERT INTO processes (process_id, hostname, pid, version, lease_seconds, graph_ids, timeline)
VALUES (%(process_id)s, %(hostname)s, %(pid)s, %(version)s, %(lease_seconds)s, %(graph_ids)s,
  %(timeline)s)

-- name: timeline
-- The timeline of the WAL that the server writes. Some servers do not have these functions.
SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)

-- name: renew_process_if_not_lost
UPDATE processes SET heartbeat_at = clock_timestamp()
WHERE process_id = %(process_id)s AND NOT lost AND NOT headrace_left_behind_1(timeline)
RETURNING 1

-- name: left_behind
SELECT headrace_left_behind_1(timeline) FROM processes WHERE process_id = %(process_id)s

-- name: remove_process
DELETE FROM processes WHERE process_id = %(process_id)s

-- name: retire_process
-- Notes that a process executes no graph any more, and finds which of its graphs others execute. A
-- process of an older release does not say which graphs it executes: it is taken to execute all.
WITH retired AS (
  UPDATE processes SET graph_ids = '{}'
  WHERE process_id = %(process_id)s AND graph_ids IS DISTINCT FROM '{}'
)
SELECT graph_id FROM unnest(%(graph_ids)s::text[]) AS graph_id
WHERE EXISTS (
  SELECT FROM processes
  WHERE process_id <> %(process_id)s AND NOT lost
    AND heartbeat_at >= clock_timestamp() - make_interval(secs => lease_seconds)
    AND (processes.graph_ids IS NULL OR graph_id = ANY (processes.graph_ids)))

-- name: processes_to_take_from
-- Processes whose lease has expired, and processes of running runs that have no row: only by_clock,
-- because right after an outage all leases look expired. Also processes that are left behind, and
-- those of running runs that are marked as lost.
SELECT process_id FROM processes
WHERE NOT lost AND (headrace_left_behind_1(timeline)
  OR %(by_clock)s AND heartbeat_at < clock_timestamp() - make_interval(secs => lease_seconds))
UNION
SELECT process_id FROM runs
WHERE status = 'running' AND coalesce((
  SELECT processes.lost FROM processes WHERE processes.process_id = runs.process_id),
  %(by_clock)s)
ORDER BY process_id
LIMIT 100

-- name: dead_processes_to_take_from
-- Among processes that have ended: those that are not marked lost, and those with running runs.
SELECT process_id FROM processes
WHERE process_id = ANY (%(process_ids)s::uuid[]) AND NOT lost
UNION
SELECT process_id FROM runs
WHERE process_id = ANY (%(process_ids)s::uuid[]) AND status = 'running'
ORDER BY process_id

-- name: lock_process
-- Takes the exclusive form of the lock that flushes of the process share (checkpoints/fence.py).
-- Waits for a flush under way. A later flush sees which runs this transaction has taken.
SELECT pg_advisory_xact_lock(%(key)s)

-- name: mark_process_lost_if_expired
-- Checks the lease again: the process may have renewed it during the wait for the lock.
UPDATE processes SET lost = true
WHERE process_id = %(process_id)s AND (headrace_left_behind_1(timeline)
  OR %(by_clock)s AND heartbeat_at < clock_timestamp() - make_interval(secs => lease_seconds))

-- name: mark_dead_process_lost
-- For a process whose end is proven, whatever its lease says. Its end is its last sign of life.
UPDATE processes
SET lost = true,
    heartbeat_at = greatest(
      heartbeat_at, clock_timestamp() - make_interval(secs => %(dead_seconds)s::float8))
WHERE process_id = %(process_id)s AND NOT lost

-- name: end_flushes_of_lost_process
-- Ends connections of a process that is dead or gone, or that stopped in the middle of a flush.
-- Postgres rolls back their transactions.
SELECT pg_terminate_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = ((%(key)s::bigint >> 32) & 4294967295)::oid
  AND objid = (%(key)s::bigint & 4294967295)::oid
  AND objsubid = 1
  AND (%(dead_seconds)s::float8 IS NOT NULL OR NOT EXISTS (
    SELECT 1 FROM processes
    WHERE process_id = %(process_id)s AND NOT lost AND NOT headrace_left_behind_1(timeline)
      AND heartbeat_at >= clock_timestamp() - make_interval(secs => lease_seconds)))

-- name: lock_threads_of_lost_runs
-- Finds the runs first: there is no index on running_run_id.
WITH lost AS MATERIALIZED (
  SELECT run_id, thread_id FROM runs
  WHERE runs.status = 'running' AND runs.process_id = %(process_id)s
    AND NOT EXISTS (
      SELECT 1 FROM processes
      WHERE processes.process_id = runs.process_id AND NOT processes.lost)
)
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM lost JOIN threads
      ON threads.thread_id = lost.thread_id AND threads.running_run_id = lost.run_id
    ORDER BY threads.thread_id
    LIMIT 500
    FOR NO KEY UPDATE OF threads
  ) AS candidate
), '[]'), true)

-- name: remember_apart_seconds
-- The least time for which a suspect has a process to itself. take_lost_runs reads it in this
-- transaction.
SELECT set_config('headrace.apart_seconds', %(apart_seconds)s::float8::text, true)

-- name: take_lost_runs
-- Each run goes on in another process, unless it was asked to stop, or has too many failures. A
-- rollback also goes on: the process that claims it finishes it. A failure is counted for the run
-- that is to blame. If the process had one run, that run is to blame; else the suspects that had
-- the process to themselves until shortly before. Without such suspects, the cause is not known:
-- the loss is counted for each run, until the run is a suspect. A loss that is not counted for a run
-- does not end it. No run is to blame for a process that was left behind. The row notes the lost
-- attempt: it ended at the last sign of life of its process, as far as anybody knows.
WITH lost AS MATERIALIZED (
  SELECT runs.run_id, runs.cancel_action, runs.failures, lived.seconds AS lived_seconds,
    processes.hostname, processes.pid, count(*) OVER () AS beside,
    coalesce(headrace_left_behind_1(processes.timeline), false) AS left_behind,
    runs.failures >= %(suspect_failures)s AND lived.seconds
      <= greatest(coalesce(nullif(current_setting('headrace.apart_seconds', true), '')::float8, 10),
        2 * coalesce(runs.lived_seconds, 0)) AS apart
  FROM threads JOIN runs ON runs.run_id = threads.running_run_id
  LEFT JOIN processes ON processes.process_id = runs.process_id
  CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM
    coalesce(processes.heartbeat_at, now()) - runs.started_at))::float8 AS seconds) AS lived
  WHERE threads.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND runs.status = 'running' AND runs.process_id = %(process_id)s
), blamed AS MATERIALIZED (
  SELECT run_id, cancel_action, lived_seconds, hostname, pid, failures AS failures_before,
    failures > 0 AND NOT left_behind AS again, CASE
    WHEN left_behind THEN failures
    WHEN beside = 1 OR apart THEN failures + 1
    WHEN bool_or(apart) OVER () THEN failures
    ELSE greatest(failures, least(failures + 1, %(suspect_failures)s)) END AS failures
  FROM lost
), judged AS MATERIALIZED (
  SELECT run_id, lived_seconds, hostname, pid, failures, again, CASE
    WHEN cancel_action = 'rollback' THEN 'pending'
    WHEN cancel_action IN ('interrupt', 'delete') THEN 'interrupted'
    WHEN failures < %(max_failures)s THEN 'pending'
    WHEN failures = failures_before AND %(max_failures)s > 1 THEN 'pending'
    ELSE 'error' END AS becomes
  FROM blamed
), taken AS (
  UPDATE runs
  SET status = becomes, failures = judged.failures, updated_at = now(),
      lived_seconds = CASE WHEN judged.failures > 0
        THEN greatest(runs.lived_seconds, judged.lived_seconds) END,
      error = CASE
        WHEN becomes = 'error' THEN %(error)s::jsonb
        -- As the process that was asked would have told it.
        WHEN becomes = 'interrupted' AND runs.cancel_note IS NOT NULL THEN jsonb_build_object(
          'error', 'UserInterrupt', 'message', 'The run was cancelled.',
          'reason', runs.cancel_note) END,
      error_cause = CASE WHEN becomes = 'error' THEN 'lost' END,
      ended_at = CASE WHEN becomes <> 'pending' THEN now() END,
      process_id = CASE WHEN becomes <> 'pending' THEN process_id END,
      earlier_attempts = CASE WHEN jsonb_typeof(runs.earlier_attempts) = 'array'
          -- If there are 50, the first one goes: there is no element 50.
          THEN runs.earlier_attempts
            - CASE WHEN jsonb_array_length(runs.earlier_attempts) < 50 THEN 50 ELSE 0 END
          ELSE '[]' END
        || jsonb_build_object('attempt', runs.attempt, 'process_id', runs.process_id,
          'hostname', judged.hostname, 'pid', judged.pid, 'started_at', runs.started_at,
          'ended_at', runs.started_at + make_interval(secs => judged.lived_seconds),
          'rescued_at', now(), 'ended', 'lost')
  FROM judged
  WHERE runs.run_id = judged.run_id
  RETURNING runs.run_id, runs.thread_id, runs.graph_id, runs.status, runs.error, runs.failures,
    judged.again, runs.attempt, runs.started_at, judged.lived_seconds AS lived, runs.traceparent
)
UPDATE threads
SET running_run_id = NULL, updated_at = now(), state_updated_at = now(),
    status = CASE WHEN taken.status = 'pending' THEN 'busy' ELSE taken.status END,
    error = CASE WHEN taken.status = 'pending' THEN threads.error ELSE taken.error END
FROM taken
WHERE threads.thread_id = taken.thread_id
RETURNING taken.run_id, taken.thread_id, taken.graph_id, taken.status, taken.failures, taken.again,
  taken.attempt, taken.started_at, taken.lived, taken.traceparent

-- name: threads_to_mend
-- Threads whose pending runs no process would claim: an older release, which knows no queue, ended
-- the run before them. Also threads whose ready run is not pending any more.
SELECT DISTINCT thread_id
FROM threads JOIN runs USING (thread_id)
WHERE runs.status = 'pending' AND threads.running_run_id IS NULL AND threads.ready_at IS NULL
UNION
SELECT thread_id FROM threads
WHERE ready_at IS NOT NULL AND running_run_id IS NULL AND NOT EXISTS (
  SELECT 1 FROM runs WHERE runs.run_id = threads.ready_run_id AND runs.status = 'pending')
LIMIT 500

-- name: lock_threads
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT thread_id FROM threads WHERE thread_id = ANY (%(thread_ids)s::text[])
    ORDER BY thread_id
    FOR NO KEY UPDATE
  ) AS candidate
), '[]'), true)

-- name: queue_figures
-- Counts pending runs up to a bound. A longer queue is reported as the bound. Also returns for how
-- many seconds the first ready thread has waited.
SELECT
  (SELECT count(*) FROM (
    SELECT FROM runs WHERE status = 'pending' LIMIT %(bound)s) AS pending),
  (SELECT extract(epoch FROM now() - ready_at)::float8 FROM threads
    WHERE ready_at IS NOT NULL AND ready_at <= now() ORDER BY ready_at LIMIT 1)

-- name: unserved_graphs
-- Graphs that no process executes, among those of the runs that have waited longest. Empty while a
-- process of an older release lives: such a process does not say which graphs it executes.
WITH waiting AS MATERIALIZED (
  SELECT ready_graph_id, ready_at FROM threads
  WHERE ready_at <= now() - make_interval(secs => %(seconds)s) AND running_run_id IS NULL
  ORDER BY ready_at
  LIMIT %(bound)s
), graphs AS (
  SELECT ready_graph_id AS graph_id, count(*) AS pending, min(ready_at) AS ready_at
  FROM waiting GROUP BY ready_graph_id
)
SELECT graph_id, pending, extract(epoch FROM now() - ready_at)::float8
FROM graphs
WHERE NOT EXISTS (
  SELECT FROM processes
  WHERE NOT lost AND (graph_ids IS NULL OR graphs.graph_id = ANY (graph_ids)))
ORDER BY pending DESC, graph_id
LIMIT %(graphs)s

-- name: lock_threads_of_unserved
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads
    WHERE ready_at <= now() - make_interval(secs => %(seconds)s) AND running_run_id IS NULL
      AND NOT EXISTS (
        SELECT FROM processes
        WHERE NOT lost AND (graph_ids IS NULL OR threads.ready_graph_id = ANY (graph_ids)))
    ORDER BY ready_at
    LIMIT 500
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
), '[]'), true)

-- name: end_unserved_runs
-- Also ends later runs of these threads, if they want that graph and have waited for as long.
WITH ended AS (
  UPDATE runs
  SET status = 'error', ended_at = now(), updated_at = now(), error_cause = 'unserved',
      error = jsonb_build_object('error', 'GraphNotServed', 'message',
        'No process executes graph "' || runs.graph_id || '", and the run has waited longer than'
        || ' worker.unserved_timeout_seconds allows.')
  FROM threads
  WHERE threads.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND runs.thread_id = threads.thread_id AND runs.status = 'pending'
    AND runs.graph_id = threads.ready_graph_id
    AND runs.created_at <= now() - make_interval(secs => %(seconds)s)
  RETURNING runs.run_id, runs.thread_id, runs.graph_id, runs.status, runs.failures, runs.error
), told AS (
  UPDATE threads
  SET error = (SELECT error FROM ended WHERE ended.thread_id = threads.thread_id LIMIT 1),
      interrupts = NULL, updated_at = now(), state_updated_at = now()
  WHERE thread_id IN (SELECT thread_id FROM ended)
)
SELECT run_id, thread_id, graph_id, status, failures FROM ended

-- name: threads_of_overdue
-- Threads with waiting runs whose deadline has passed. A run that is to be rolled back waits for
-- that.
SELECT DISTINCT thread_id
FROM (
  SELECT thread_id FROM runs
  WHERE status = 'pending' AND kwargs ? 'deadline_seconds' AND cancel_action IS NULL
    AND CASE WHEN jsonb_typeof(kwargs -> 'deadline_seconds') = 'number'
      THEN extract(epoch FROM now() - created_at) >= (kwargs ->> 'deadline_seconds')::numeric
      ELSE false END
  LIMIT 500
) AS overdue
ORDER BY thread_id

-- name: end_overdue_runs
-- A thread that such a run has not begun to change stays as it was before the run.
WITH ended AS (
  UPDATE runs
  SET status = 'timeout', ended_at = now(), updated_at = now(), error_cause = 'deadline',
      error = jsonb_build_object('error', 'DeadlineExceeded', 'message',
        'The run has not ended by its deadline, '
        || trim_scale((kwargs ->> 'deadline_seconds')::numeric)
        || ' s after it was made, or after its delay (deadline_seconds).')
  WHERE runs.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND status = 'pending' AND kwargs ? 'deadline_seconds' AND cancel_action IS NULL
    AND CASE WHEN jsonb_typeof(kwargs -> 'deadline_seconds') = 'number'
      THEN extract(epoch FROM now() - created_at) >= (kwargs ->> 'deadline_seconds')::numeric
      ELSE false END
  RETURNING run_id, thread_id, graph_id, status, failures, attempt, error
), told AS (
  UPDATE threads
  SET error = ended.error, updated_at = now(), state_updated_at = now()
  FROM ended
  WHERE threads.thread_id = ended.thread_id AND ended.attempt > 0
    AND threads.running_run_id IS NULL
)
SELECT run_id, thread_id, graph_id, status, failures FROM ended

-- name: forget_lost_processes
-- Rows of lost processes stay for a day, for operators who look for the cause.
DELETE FROM processes
WHERE lost AND heartbeat_at < clock_timestamp() - interval '1 day'
  AND NOT EXISTS (
    SELECT 1 FROM runs
    WHERE runs.process_id = processes.process_id AND runs.status = 'running')
