-- Every change of who runs what. The law (architecture.md): lock in one statement, act in the next.
-- Under READ COMMITTED a statement acts on a snapshot older than the locks it takes, so the first
-- statement remembers what it locked in the transaction-local setting headrace.locked, and the second
-- touches only that. Lock order everywhere: threads (sorted), then runs.

-- name: create_threads_if_absent
-- For if_not_exists=create, stateless runs and /chat.
INSERT INTO threads (thread_id, tenant, owner, temporary)
SELECT thread_id, tenant, owner, temporary
FROM unnest(%(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[], %(temporary)s::bool[])
  AS given (thread_id, tenant, owner, temporary)
ORDER BY thread_id
ON CONFLICT DO NOTHING

-- name: lock_free_threads
-- Remembers the wanted threads that no run has. Passes over those that somebody else works on just
-- now: a batch of starts never waits for one of them, and holds locks only after all its other waits.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id, threads.running_run_id
    FROM threads
    JOIN unnest(%(thread_ids)s::text[], %(tenants)s::text[]) AS wanted (thread_id, tenant)
      ON wanted.thread_id = threads.thread_id AND wanted.tenant = threads.tenant
    ORDER BY threads.thread_id
    FOR NO KEY UPDATE OF threads SKIP LOCKED
  ) AS candidate
  WHERE running_run_id IS NULL
), '[]'), true)

-- name: start_runs_on_locked_threads
-- Of several runs for one thread the first gets it. The thread's metadata goes into the run's; the
-- graph is what thread lists filter on.
WITH wanted AS (
  SELECT DISTINCT ON (given.thread_id) given.*
  FROM unnest(%(run_ids)s::uuid[], %(thread_ids)s::text[], %(tenants)s::text[], %(owners)s::text[],
      %(assistant_ids)s::uuid[], %(graph_ids)s::text[], %(process_ids)s::uuid[],
      %(multitask_strategies)s::text[], %(metadata)s::jsonb[], %(kwargs)s::jsonb[],
      %(thread_configs)s::jsonb[])
    WITH ORDINALITY AS given (run_id, thread_id, tenant, owner, assistant_id, graph_id, process_id,
      multitask_strategy, metadata, kwargs, thread_config, number)
  JOIN threads ON threads.thread_id = given.thread_id AND threads.tenant = given.tenant
  WHERE given.thread_id IN (
    SELECT json_array_elements_text(current_setting('headrace.locked')::json))
  ORDER BY given.thread_id, given.number
), taken AS (
  UPDATE threads
  SET status = 'busy', running_run_id = wanted.run_id, updated_at = now(),
      metadata = threads.metadata || jsonb_build_object(
        'graph_id', wanted.graph_id, 'assistant_id', wanted.assistant_id::text),
      config = wanted.thread_config
  FROM wanted
  WHERE threads.thread_id = wanted.thread_id
  RETURNING threads.thread_id, threads.metadata
)
INSERT INTO runs (
  run_id, thread_id, assistant_id, graph_id, tenant, owner, status, attempt, process_id,
  multitask_strategy, metadata, kwargs, started_at)
SELECT
  run_id, thread_id, assistant_id, graph_id, tenant, owner, 'running', 1, process_id,
  multitask_strategy, taken.metadata || wanted.metadata, kwargs, now()
FROM wanted JOIN taken USING (thread_id)

-- name: started_runs
-- What has become of each wanted start, in this try or in one whose answer was lost.
SELECT threads.thread_id IS NOT NULL AS there, threads.running_run_id IS NOT NULL AS busy,
  runs.attempt, runs.metadata, runs.created_at
FROM unnest(%(run_ids)s::uuid[], %(thread_ids)s::text[], %(tenants)s::text[],
    %(process_ids)s::uuid[])
  WITH ORDINALITY AS given (run_id, thread_id, tenant, process_id, number)
LEFT JOIN threads ON threads.thread_id = given.thread_id AND threads.tenant = given.tenant
LEFT JOIN runs ON runs.run_id = given.run_id AND runs.process_id = given.process_id
ORDER BY given.number

-- name: lock_threads_of_runs
-- Remembers the threads that these runs have.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id, threads.running_run_id = given.run_id AS held
    FROM threads
    JOIN unnest(%(run_ids)s::uuid[], %(thread_ids)s::text[]) AS given (run_id, thread_id)
      ON given.thread_id = threads.thread_id
    ORDER BY threads.thread_id
    FOR NO KEY UPDATE OF threads
  ) AS candidate
  WHERE held
), '[]'), true)

-- name: end_runs_if_owned
-- Guarded by owner and attempt: a process that lost a run changes nothing.
WITH ended AS (
  UPDATE runs
  SET status = given.status, error = given.error, ended_at = now(), updated_at = now()
  FROM unnest(%(run_ids)s::uuid[], %(attempts)s::int[], %(process_ids)s::uuid[],
      %(statuses)s::text[], %(thread_statuses)s::text[], %(errors)s::jsonb[],
      %(interrupts)s::jsonb[])
    AS given (run_id, attempt, process_id, status, thread_status, error, interrupts)
  WHERE runs.run_id = given.run_id AND runs.attempt = given.attempt
    AND runs.process_id = given.process_id AND runs.status = 'running'
    AND runs.thread_id IN (SELECT json_array_elements_text(current_setting('headrace.locked')::json))
  RETURNING runs.thread_id, given.thread_status, given.error, given.interrupts
)
UPDATE threads
SET status = ended.thread_status, running_run_id = NULL, error = ended.error,
    interrupts = ended.interrupts, updated_at = now(), state_updated_at = now()
FROM ended
WHERE threads.thread_id = ended.thread_id

-- name: statuses_of_attempts
-- Tells ends that were committed, now or in a try whose answer was lost, from lost runs.
SELECT runs.status
FROM unnest(%(run_ids)s::uuid[], %(attempts)s::int[])
  WITH ORDINALITY AS given (run_id, attempt, number)
LEFT JOIN runs ON runs.run_id = given.run_id AND runs.attempt = given.attempt
ORDER BY given.number

-- name: delete_temporary_thread
DELETE FROM threads WHERE thread_id = %(thread_id)s AND temporary AND running_run_id IS NULL

-- name: abandoned_temporary_threads
-- Left by processes that died between the end of a stateless run and its clean-up.
SELECT thread_id FROM threads
WHERE temporary AND running_run_id IS NULL AND updated_at < now() - make_interval(secs => %(seconds)s)
ORDER BY thread_id
LIMIT 100

-- name: register_process
INSERT INTO processes (process_id, hostname, pid, version, lease_seconds)
VALUES (%(process_id)s, %(hostname)s, %(pid)s, %(version)s, %(lease_seconds)s)

-- name: renew_process_if_not_lost
UPDATE processes SET heartbeat_at = clock_timestamp()
WHERE process_id = %(process_id)s AND NOT lost
RETURNING 1

-- name: remove_process
DELETE FROM processes WHERE process_id = %(process_id)s

-- name: processes_to_take_from
-- Expired ones, and owners of running runs that are lost or have no row.
SELECT process_id FROM processes
WHERE NOT lost AND heartbeat_at < clock_timestamp() - make_interval(secs => lease_seconds)
UNION
SELECT process_id FROM runs
WHERE status = 'running' AND NOT EXISTS (
  SELECT 1 FROM processes
  WHERE processes.process_id = runs.process_id AND NOT processes.lost)
ORDER BY process_id
LIMIT 100

-- name: lock_process
-- The exclusive form of the lock that flushes of the process hold (checkpoints/fence.py): waits for
-- one in flight, and a later one sees what is taken here.
SELECT pg_advisory_xact_lock(%(key)s)

-- name: mark_process_lost_if_expired
-- Judged again: it may have come back while the lock was waited for.
UPDATE processes SET lost = true
WHERE process_id = %(process_id)s
  AND heartbeat_at < clock_timestamp() - make_interval(secs => lease_seconds)

-- name: end_flushes_of_expired_process
-- Of a client that is gone or stopped in mid-flush: its transaction rolls back.
SELECT pg_terminate_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = ((%(key)s::bigint >> 32) & 4294967295)::oid
  AND objid = (%(key)s::bigint & 4294967295)::oid
  AND objsubid = 1
  AND NOT EXISTS (
    SELECT 1 FROM processes
    WHERE process_id = %(process_id)s AND NOT lost
      AND heartbeat_at >= clock_timestamp() - make_interval(secs => lease_seconds))

-- name: lock_threads_of_lost_runs
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads JOIN runs ON runs.run_id = threads.running_run_id
    WHERE runs.status = 'running' AND runs.process_id = %(process_id)s
      AND NOT EXISTS (
        SELECT 1 FROM processes
        WHERE processes.process_id = runs.process_id AND NOT processes.lost)
    ORDER BY threads.thread_id
    LIMIT 500
    FOR NO KEY UPDATE OF threads
  ) AS candidate
), '[]'), true)

-- name: fail_lost_runs
WITH failed AS (
  UPDATE runs
  SET status = 'error', error = %(error)s, failures = failures + 1,
      ended_at = now(), updated_at = now()
  FROM threads
  WHERE threads.thread_id IN (
      SELECT json_array_elements_text(current_setting('headrace.locked')::json))
    AND runs.run_id = threads.running_run_id
    AND runs.status = 'running' AND runs.process_id = %(process_id)s
  RETURNING runs.run_id, runs.thread_id, runs.graph_id
)
UPDATE threads
SET status = 'error', running_run_id = NULL, error = %(error)s, updated_at = now(),
    state_updated_at = now()
FROM failed
WHERE threads.thread_id = failed.thread_id
RETURNING failed.run_id, failed.thread_id, failed.graph_id

-- name: forget_lost_processes
-- Kept a day for whoever looks into what happened.
DELETE FROM processes
WHERE lost AND heartbeat_at < clock_timestamp() - interval '1 day'
  AND NOT EXISTS (
    SELECT 1 FROM runs
    WHERE runs.process_id = processes.process_id AND runs.status = 'running')
