-- The triggers of headrace's tables, and their functions. Revisions create them; `headrace db
-- upgrade` creates again what is missing or differs. A release that changes a function does so in a
-- revision too, and its text still has to serve processes of the release before it.

-- name: threads_set_listed
CREATE OR REPLACE FUNCTION threads_set_listed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  NEW.halted_status := CASE WHEN NEW.status IN ('error', 'interrupted') THEN NEW.status END;
  NEW.graph_id := CASE WHEN jsonb_typeof(NEW.metadata -> 'graph_id') = 'string'
    AND length(NEW.metadata ->> 'graph_id') <= 255 THEN NEW.metadata ->> 'graph_id' END;
  NEW.assistant_id := CASE WHEN jsonb_typeof(NEW.metadata -> 'assistant_id') = 'string'
    AND length(NEW.metadata ->> 'assistant_id') <= 255 THEN NEW.metadata ->> 'assistant_id' END;
  RETURN NEW;
END $$

-- name: runs_set_webhook
CREATE OR REPLACE FUNCTION runs_set_webhook() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  NEW.webhook := NEW.kwargs ->> 'webhook';
  RETURN NEW;
END $$

-- name: runs_tell_webhook
CREATE OR REPLACE FUNCTION runs_tell_webhook() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  told jsonb;
BEGIN
  told := jsonb_build_object(
    'run_id', NEW.run_id, 'thread_id', NEW.thread_id, 'assistant_id', NEW.assistant_id,
    'metadata', NEW.metadata, 'status', NEW.status,
    'multitask_strategy', NEW.multitask_strategy,
    'created_at',
    to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00',
    'updated_at',
    to_char(NEW.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00',
    'run_started_at',
    to_char(NEW.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00',
    'run_ended_at',
    to_char(NEW.ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00');
  IF octet_length(NEW.kwargs::text) > 1048576 THEN
    told := told || '{"kwargs": {}, "kwargs_omitted": "they are too large"}';
  ELSE
    told := told || jsonb_build_object('kwargs', NEW.kwargs);
  END IF;
  IF NEW.error IS NOT NULL THEN
    told := told || jsonb_build_object('error', NEW.error);
  END IF;
  INSERT INTO webhook_deliveries AS delivery (
    run_id, thread_id, tenant, owner, url, receiver, state, run, due_at)
  VALUES (
    NEW.run_id, NEW.thread_id, NEW.tenant, NEW.owner, NEW.webhook,
    coalesce(lower(substring(NEW.webhook FROM '^[A-Za-z]+://([^/?#]*)')), ''), 'due', told, now())
  ON CONFLICT (run_id) DO UPDATE
  SET url = excluded.url, receiver = excluded.receiver, state = 'due', run = excluded.run,
    due_at = excluded.due_at, created_at = now(),
    result = CASE WHEN delivery.attempt = NEW.attempt THEN delivery.result END
  WHERE delivery.state = 'staged';
  RETURN NULL;
END $$

-- name: threads_listed_insert
CREATE TRIGGER threads_listed_insert BEFORE INSERT ON threads
FOR EACH ROW WHEN (NOT NEW.temporary AND (NEW.metadata <> '{}' OR NEW.status <> 'idle'))
EXECUTE FUNCTION threads_set_listed()

-- name: threads_listed_status
CREATE TRIGGER threads_listed_status BEFORE UPDATE OF status ON threads
FOR EACH ROW WHEN (NEW.halted_status IS DISTINCT FROM
  CASE WHEN NEW.status IN ('error', 'interrupted') THEN NEW.status END)
EXECUTE FUNCTION threads_set_listed()

-- name: threads_listed_metadata
CREATE TRIGGER threads_listed_metadata BEFORE UPDATE OF metadata ON threads
FOR EACH ROW WHEN (NOT NEW.temporary AND NEW.metadata IS DISTINCT FROM OLD.metadata)
EXECUTE FUNCTION threads_set_listed()

-- name: runs_webhook_insert
CREATE TRIGGER runs_webhook_insert BEFORE INSERT ON runs
FOR EACH ROW WHEN (NEW.kwargs ? 'webhook')
EXECUTE FUNCTION runs_set_webhook()

-- name: runs_webhook_end
CREATE TRIGGER runs_webhook_end AFTER UPDATE OF ended_at ON runs
FOR EACH ROW WHEN (NEW.webhook IS NOT NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL)
EXECUTE FUNCTION runs_tell_webhook()
