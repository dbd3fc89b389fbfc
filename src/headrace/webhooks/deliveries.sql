-- Deliveries of webhooks. A trigger makes a delivery due in the transaction that ends its run
-- (migrations/versions/0020_webhooks.py); these statements stage, claim and settle it.

-- name: stage
-- Notes what a run has left, before its end: the trigger joins it to the end of that attempt. Only
-- the process that has the run may do so. A later attempt replaces what an earlier one has left.
INSERT INTO webhook_deliveries AS delivery (
  run_id, thread_id, tenant, owner, url, attempt, result)
SELECT run_id, thread_id, tenant, owner, webhook, attempt, %(result)s
FROM runs
WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND process_id = %(process_id)s
  AND status = 'running' AND webhook IS NOT NULL
ON CONFLICT (run_id) DO UPDATE SET attempt = excluded.attempt, result = excluded.result
WHERE delivery.state = 'staged' AND delivery.attempt <= excluded.attempt

-- name: claim
-- Takes deliveries that are due. Their time moves behind the lease: if this process dies, another
-- one finds them due again. Deliveries of callers, and to receivers, that have enough calls already
-- stay. A caller is a tenant, or an owner in the default tenant, as for other shares. Who called is
-- for the graph alone: it is not sent.
WITH due AS MATERIALIZED (
  SELECT run_id, caller FROM webhook_deliveries
    CROSS JOIN LATERAL (
      SELECT CASE tenant WHEN 'default' THEN 'owner ' || owner ELSE 'tenant ' || tenant END
    ) AS named (caller)
  WHERE state = 'due' AND due_at <= now() AND caller <> ALL (%(full)s::text[])
    AND caller || chr(10) || receiver <> ALL (%(busy)s::text[])
    AND (NOT %(all_bounded)s AND caller <> ALL (%(bounded)s::text[])
      OR caller || chr(10) || receiver = ANY (%(known)s::text[]))
  ORDER BY due_at
  LIMIT %(limit)s
  FOR UPDATE OF webhook_deliveries SKIP LOCKED
)
UPDATE webhook_deliveries
SET tries = tries + 1, due_at = now() + make_interval(secs => %(lease_seconds)s)
FROM due
WHERE webhook_deliveries.run_id = due.run_id
RETURNING webhook_deliveries.run_id, url, caller, receiver, tries, (run #- '{kwargs,auth}')::text,
  result,
  extract(epoch FROM now() - created_at)::float8

-- name: release
-- Gives deliveries back that were claimed and not sent.
UPDATE webhook_deliveries
SET tries = given.tries - 1, due_at = now() + make_interval(secs => %(seconds)s)
FROM unnest(%(run_ids)s::uuid[], %(tries)s::int[]) AS given (run_id, tries)
WHERE webhook_deliveries.run_id = given.run_id AND webhook_deliveries.tries = given.tries
  AND state = 'due'

-- name: settle
-- The outcome of a call. What was sent is not kept; what is dead can be sent again.
UPDATE webhook_deliveries
SET state = %(state)s, problem = %(problem)s,
    due_at = CASE WHEN %(state)s = 'due' THEN now() + make_interval(secs => %(seconds)s) END,
    settled_at = CASE WHEN %(state)s <> 'due' THEN now() END,
    run = CASE WHEN %(state)s <> 'sent' THEN run END,
    result = CASE WHEN %(state)s <> 'sent' THEN result END
WHERE run_id = %(run_id)s AND tries = %(tries)s AND state = 'due'

-- name: delete_expired
-- The oldest deliveries whose time is over, and what was staged for runs that are gone. A delivery
-- that is due is kept. A sweeper skips rows that another sweeper has locked.
WITH batch AS MATERIALIZED (
  SELECT run_id FROM webhook_deliveries
  WHERE created_at < now() - make_interval(secs => %(keep_seconds)s) AND state <> 'due'
  ORDER BY created_at
  LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED
)
DELETE FROM webhook_deliveries USING batch WHERE webhook_deliveries.run_id = batch.run_id

-- name: listed
SELECT run_id, thread_id, tenant, receiver, state, tries, problem, created_at, due_at, settled_at
FROM webhook_deliveries
WHERE state = ANY (%(states)s::text[])
ORDER BY created_at DESC, run_id
LIMIT %(limit)s

-- name: resend
-- Makes dead deliveries due again, all of them or those that are named.
WITH chosen AS MATERIALIZED (
  SELECT run_id FROM webhook_deliveries
  WHERE state = 'dead' AND (%(run_ids)s::uuid[] IS NULL OR run_id = ANY (%(run_ids)s::uuid[]))
  FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries
SET state = 'due', due_at = now(), tries = 0, settled_at = NULL
FROM chosen WHERE webhook_deliveries.run_id = chosen.run_id
RETURNING webhook_deliveries.run_id
