-- Crons that are due. The transaction that makes a run moves its cron on: queue/queue.sql.

-- name: take_due_crons
-- Takes crons that are to be looked at, first those that are late longest. Others look at them again
-- after a while, if no run comes of it. Skips crons that another process takes now. The array leaves
-- the planner one way to find the rows: the primary key.
WITH due AS MATERIALIZED (
  SELECT cron_id FROM crons
  WHERE look_at <= now()
  ORDER BY look_at
  LIMIT %(limit)s
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE crons SET look_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE crons.cron_id = ANY (ARRAY(SELECT due.cron_id FROM due))
RETURNING crons.cron_id, crons.tenant, crons.owner, crons.caller, crons.auth, crons.assistant_id,
  crons.thread_id, crons.schedule, crons.timezone, crons.end_time, crons.on_run_completed,
  crons.payload, crons.headers, crons.next_run_date AS slot, clock_timestamp() AS now

-- name: wake_free
-- Finds those of the given crons whose slots still have no runs. Lets each of them be looked at now,
-- and returns it as woken, unless another transaction has locked it: nothing waits for that.
WITH given AS (
  SELECT * FROM unnest(%(cron_ids)s::uuid[], %(slots)s::timestamptz[]) AS given (cron_id, slot)
), waiting AS MATERIALIZED (
  SELECT crons.cron_id FROM given
  JOIN crons ON crons.cron_id = given.cron_id AND crons.next_run_date = given.slot
  WHERE crons.enabled
), free AS MATERIALIZED (
  SELECT crons.cron_id FROM given
  JOIN crons ON crons.cron_id = given.cron_id AND crons.next_run_date = given.slot
  WHERE crons.enabled
  FOR NO KEY UPDATE OF crons SKIP LOCKED
), woken AS (
  UPDATE crons SET look_at = clock_timestamp()
  WHERE crons.cron_id = ANY (ARRAY(SELECT free.cron_id FROM free))
  RETURNING crons.cron_id
)
SELECT waiting.cron_id, waiting.cron_id IN (SELECT woken.cron_id FROM woken) AS woken
FROM waiting

-- name: seconds_to_next
SELECT extract(epoch FROM look_at - clock_timestamp())::float8 AS seconds
FROM crons
WHERE look_at IS NOT NULL
ORDER BY look_at
LIMIT 1

-- name: skip_slot
-- Moves a cron to its next slot without a run.
UPDATE crons
SET next_run_date = %(next_at)s::timestamptz, look_at = %(next_at)s::timestamptz
WHERE cron_id = %(cron_id)s AND enabled AND next_run_date = %(at)s::timestamptz
RETURNING cron_id

-- name: disable
UPDATE crons
SET enabled = false, disabled_reason = %(reason)s, look_at = NULL, updated_at = clock_timestamp()
WHERE cron_id = %(cron_id)s AND enabled AND next_run_date = %(at)s::timestamptz
RETURNING cron_id
