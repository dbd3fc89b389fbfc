-- Every change of who runs what. The law (architecture.md): lock in one statement, act in the next.
-- Under READ COMMITTED a statement acts on a snapshot older than the locks it takes, so the first
-- statement remembers what it locked in the transaction-local setting headrace.locked, and the second
-- touches only that. Lock order everywhere: threads (sorted), then runs.

-- name: create_thread_if_absent
-- For if_not_exists=create, stateless runs and /chat.
INSERT INTO threads (thread_id, tenant, owner, temporary)
VALUES (%(thread_id)s, %(tenant)s, %(owner)s, %(temporary)s)
ON CONFLICT DO NOTHING

-- name: lock_free_thread
-- Remembers the thread when no run has it.
SELECT set_config('headrace.locked', coalesce((
  SELECT thread_id
  FROM (
    SELECT thread_id, running_run_id
    FROM threads
    WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s
    FOR NO KEY UPDATE
  ) AS candidate
  WHERE running_run_id IS NULL
), ''), true)

-- name: start_run_on_locked_thread
-- The thread's metadata goes into the run's; the graph is what thread lists filter on.
WITH taken AS (
  UPDATE threads
  SET status = 'busy', running_run_id = %(run_id)s, updated_at = now(),
      metadata = metadata || jsonb_build_object(
        'graph_id', %(graph_id)s::text, 'assistant_id', %(assistant_id)s::text),
      config = %(thread_config)s
  WHERE thread_id = current_setting('headrace.locked', true)
  RETURNING thread_id, metadata
)
INSERT INTO runs (
  run_id, thread_id, assistant_id, graph_id, tenant, owner, status, attempt, process_id,
  multitask_strategy, metadata, kwargs, started_at)
SELECT
  %(run_id)s, thread_id, %(assistant_id)s, %(graph_id)s, %(tenant)s, %(owner)s, 'running', 1,
  %(process_id)s, %(multitask_strategy)s, metadata || %(metadata)s, %(kwargs)s, now()
FROM taken
RETURNING attempt, metadata, created_at

-- name: thread_exists
SELECT 1 FROM threads WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s

-- name: lock_thread_of_run
-- Remembers the thread when this run has it.
SELECT set_config('headrace.locked', coalesce((
  SELECT thread_id
  FROM (
    SELECT thread_id, running_run_id
    FROM threads
    WHERE thread_id = %(thread_id)s
    FOR NO KEY UPDATE
  ) AS candidate
  WHERE running_run_id = %(run_id)s
), ''), true)

-- name: end_run_if_owned
-- Guarded by owner and attempt: a process that lost the run changes nothing.
WITH ended AS (
  UPDATE runs
  SET status = %(status)s, error = %(error)s, ended_at = now(), updated_at = now()
  WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND process_id = %(process_id)s
    AND status = 'running' AND thread_id = current_setting('headrace.locked', true)
  RETURNING thread_id
)
UPDATE threads
SET status = %(thread_status)s, running_run_id = NULL, error = %(error)s,
    interrupts = %(interrupts)s, updated_at = now(), state_updated_at = now()
FROM ended
WHERE threads.thread_id = ended.thread_id
RETURNING 1

-- name: status_of_attempt
-- Tells an end that was already committed, whose answer was lost, from a lost run.
SELECT status FROM runs WHERE run_id = %(run_id)s AND attempt = %(attempt)s

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

-- name: mark_expired_processes_lost
-- The condition is on the locked row alone, so it is judged again on its newest version.
UPDATE processes SET lost = true
WHERE process_id IN (
  SELECT process_id FROM processes
  WHERE NOT lost
    AND heartbeat_at < clock_timestamp() - make_interval(secs => lease_seconds)
  ORDER BY process_id
  FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING process_id, hostname, pid

-- name: lock_threads_of_lost_runs
-- Runs of lost processes, and of processes whose row is missing.
SELECT set_config('headrace.locked', coalesce((
  SELECT json_agg(thread_id)::text
  FROM (
    SELECT threads.thread_id
    FROM threads JOIN runs ON runs.run_id = threads.running_run_id
    WHERE runs.status = 'running'
      AND NOT EXISTS (
        SELECT 1 FROM processes
        WHERE processes.process_id = runs.process_id AND NOT processes.lost)
    ORDER BY threads.thread_id
    LIMIT 500
    FOR NO KEY UPDATE OF threads SKIP LOCKED
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
    AND runs.status = 'running'
    AND NOT EXISTS (
      SELECT 1 FROM processes
      WHERE processes.process_id = runs.process_id AND NOT processes.lost)
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
