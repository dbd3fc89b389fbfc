-- Erasing threads with all that belongs to them, beside servers that work.

-- name: page_of_threads
SELECT thread_id FROM threads
WHERE thread_id > %(after)s AND tenant = %(tenant)s
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY thread_id
LIMIT %(limit)s

-- name: unfinished_threads
SELECT DISTINCT thread_id FROM runs
WHERE thread_id = ANY (%(thread_ids)s) AND status IN ('pending', 'running')

-- name: lock_thread_to_stop
SELECT 1 FROM threads WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE

-- name: forget_pending_runs
-- No process has them. So no run follows the one that is asked to stop.
DELETE FROM runs WHERE thread_id = %(thread_id)s AND status = 'pending'

-- name: nothing_is_ready
UPDATE threads
SET ready_at = NULL, ready_run_id = NULL, ready_graph_id = NULL, ready_caller = ''
WHERE thread_id = %(thread_id)s AND ready_at IS NOT NULL

-- name: ask_to_stop
-- Its process ends it. Nobody is told of its end.
UPDATE runs
SET cancel_action = 'delete', updated_at = now(), webhook = NULL,
    cancel_reason = coalesce(cancel_reason, 'deleted'),
    cancel_asked_at = coalesce(cancel_asked_at, now())
WHERE thread_id = %(thread_id)s AND status = 'running'

-- name: executed_threads
SELECT thread_id FROM threads
WHERE thread_id = ANY (%(thread_ids)s) AND running_run_id IS NOT NULL

-- name: lock_idle_threads
-- No process executes a run on them, and none begins one while they are locked. What others have
-- locked is left for later.
SELECT thread_id FROM threads
WHERE thread_id = ANY (%(thread_ids)s) AND tenant = %(tenant)s
  AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND running_run_id IS NULL
ORDER BY thread_id
FOR UPDATE SKIP LOCKED

-- name: owner_of_thread
-- The process that executes its run, if the thread is there.
SELECT runs.process_id
FROM threads LEFT JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s AND threads.tenant = %(tenant)s
  AND (%(owner)s::text IS NULL OR threads.owner = %(owner)s)

-- name: lock_thread
-- The lock of that process is taken before. From here on no run starts on the thread.
SELECT 1 FROM threads
WHERE thread_id = %(thread_id)s AND tenant = %(tenant)s
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
FOR UPDATE

-- name: owner_of_locked_thread
SELECT runs.process_id
FROM threads JOIN runs ON runs.run_id = threads.running_run_id
WHERE threads.thread_id = %(thread_id)s

-- name: erase_idempotency_keys
DELETE FROM idempotency_keys
WHERE run_id IN (SELECT run_id FROM runs WHERE thread_id = ANY (%(thread_ids)s))

-- name: erase_webhook_deliveries
DELETE FROM webhook_deliveries
WHERE run_id IN (SELECT run_id FROM runs WHERE thread_id = ANY (%(thread_ids)s))

-- name: erase_run_events
DELETE FROM run_events
WHERE run_id IN (SELECT run_id FROM runs WHERE thread_id = ANY (%(thread_ids)s))

-- name: erase_checkpoint_writes
DELETE FROM checkpoint_writes WHERE thread_id = ANY (%(thread_ids)s)

-- name: erase_checkpoint_blobs
DELETE FROM checkpoint_blobs WHERE thread_id = ANY (%(thread_ids)s)

-- name: erase_checkpoints
DELETE FROM checkpoints WHERE thread_id = ANY (%(thread_ids)s)

-- name: erase_runs
DELETE FROM runs WHERE thread_id = ANY (%(thread_ids)s)

-- name: erase_threads
DELETE FROM threads WHERE thread_id = ANY (%(thread_ids)s)

-- name: shared_threads
-- Threads of others to which the owner has sent runs.
SELECT count(DISTINCT runs.thread_id)
FROM runs JOIN threads USING (thread_id)
WHERE runs.tenant = %(tenant)s AND runs.owner = %(owner)s AND threads.owner <> runs.owner

-- name: running_runs
SELECT run_id FROM runs
WHERE tenant = %(tenant)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND status = 'running'

-- name: interrupt_run
UPDATE runs
SET cancel_action = coalesce(cancel_action, 'interrupt'), updated_at = now(), webhook = NULL,
    cancel_reason = coalesce(cancel_reason, 'deleted'),
    cancel_asked_at = coalesce(cancel_asked_at, now())
WHERE run_id = %(run_id)s AND status = 'running'

-- name: page_of_ended_runs
-- Runs that the owner has made on threads of others.
SELECT run_id FROM runs
WHERE run_id > %(after)s::uuid AND tenant = %(tenant)s
  AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND ended_at IS NOT NULL
ORDER BY run_id
LIMIT %(limit)s

-- name: lock_ended_runs
-- After their threads. An ended run does not begin again.
SELECT run_id FROM runs
WHERE run_id = ANY (%(run_ids)s) AND ended_at IS NOT NULL
ORDER BY run_id
FOR UPDATE SKIP LOCKED

-- name: forget_metadata_of_runs
-- What the caller has said of these runs, in checkpoints that stay. The keys that LangGraph and
-- headrace read are left.
UPDATE checkpoints
SET metadata = coalesce((
  SELECT jsonb_object_agg(key, value) FROM jsonb_each(metadata)
  WHERE key IN (
    'source', 'step', 'parents', 'counters_since_delta_snapshot', 'delta_writes_versioned',
    'run_id', 'run_attempt', 'thread_id', 'graph_id', 'assistant_id')), '{}')
WHERE thread_id IN (SELECT thread_id FROM runs WHERE run_id = ANY (%(run_ids)s))
  AND metadata ->> 'run_id' IN (SELECT unnest(%(run_ids)s)::text)

-- name: erase_keys_of_runs
DELETE FROM idempotency_keys WHERE run_id = ANY (%(run_ids)s)

-- name: erase_events_of_runs
DELETE FROM run_events WHERE run_id = ANY (%(run_ids)s)

-- name: erase_deliveries_of_runs
DELETE FROM webhook_deliveries WHERE run_id = ANY (%(run_ids)s)

-- name: erase_these_runs
DELETE FROM runs WHERE run_id = ANY (%(run_ids)s)

-- name: page_of_eventful_runs
-- Steps from run to run in the index of the primary key, and finds those whose row is gone: a
-- deletion leaves the events of a run that another process reads.
WITH RECURSIVE found AS (
  (SELECT run_id, 1 AS number FROM run_events WHERE run_id > %(after)s::uuid
    ORDER BY run_id LIMIT 1)
  UNION ALL
  SELECT (SELECT run_events.run_id FROM run_events WHERE run_events.run_id > found.run_id
      ORDER BY run_events.run_id LIMIT 1), number + 1
  FROM found
  WHERE found.run_id IS NOT NULL AND number < %(limit)s
)
SELECT found.run_id, runs.run_id IS NULL AS gone
FROM found LEFT JOIN runs ON runs.run_id = found.run_id
WHERE found.run_id IS NOT NULL
ORDER BY found.run_id
