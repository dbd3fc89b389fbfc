"""Webhooks: who is told of the end of a run, and the deliveries.

Two triggers do it, so that every way in which a run begins or ends is covered, also in processes of
the previous release, which know no webhooks. They do nothing for a run without one: their
conditions read the arguments of a run once, when it is made.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.functions import in_schema
from headrace.db.table_schema import RevisionNames

revision = "0020"
down_revision = "0019"

names = RevisionNames(
    tables={
        "webhook_deliveries": {
            "run_id": "uuid",
            "url": "text",
            "receiver": "text",
            "tries": "integer",
            "due_at": "timestamp with time zone",
        }
    },
    indexes={
        "webhook_deliveries_pkey": "webhook_deliveries",
        "webhook_deliveries_due_at_idx": "webhook_deliveries",
        "webhook_deliveries_created_at_idx": "webhook_deliveries",
    },
    functions={"runs_set_webhook": "webhook", "runs_tell_webhook": "webhook_deliveries"},
    repeatable=True,
)

_COMMENTS = {
    "runs.webhook": "that of kwargs, who is told of its end; written by a trigger",
    "webhook_deliveries.receiver": "host and port of the URL; the bound of calls counts it",
    "webhook_deliveries.attempt": "attempt of the run that has left the result",
    "webhook_deliveries.run": "the run at its end; NULL before it, and when sent",
    "webhook_deliveries.result": "JSON text: values and interrupts that the run has left",
    "webhook_deliveries.problem": "why the last call has failed",
    "webhook_deliveries.due_at": "when it is sent next; while it is sent, when others may",
}

_SET = """
CREATE OR REPLACE FUNCTION runs_set_webhook() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  NEW.webhook := NEW.kwargs ->> 'webhook';
  RETURN NEW;
END $$"""


def _time(column: str) -> str:
    """SQL for a time as clients read it."""
    return f"to_char(NEW.{column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"


# What a run has left was staged before its end, by the attempt that ends now. Arguments of more
# than a megabyte are left out: each process holds several messages in memory.
_TELL = f"""
CREATE OR REPLACE FUNCTION runs_tell_webhook() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  told jsonb;
BEGIN
  told := jsonb_build_object(
    'run_id', NEW.run_id, 'thread_id', NEW.thread_id, 'assistant_id', NEW.assistant_id,
    'metadata', NEW.metadata, 'status', NEW.status,
    'multitask_strategy', NEW.multitask_strategy,
    'created_at', {_time("created_at")}, 'updated_at', {_time("updated_at")},
    'run_started_at', {_time("started_at")}, 'run_ended_at', {_time("ended_at")});
  IF octet_length(NEW.kwargs::text) > 1048576 THEN
    told := told || '{{"kwargs": {{}}, "kwargs_omitted": "they are too large"}}';
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
END $$"""

# The conditions are short, because Postgres parses them again in every statement.
_TRIGGERS = (
    (
        "runs_webhook_insert",
        "BEFORE INSERT",
        "NEW.kwargs ? 'webhook'",
        "runs_set_webhook",
    ),
    (
        "runs_webhook_end",
        "AFTER UPDATE OF ended_at",
        "NEW.webhook IS NOT NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL",
        "runs_tell_webhook",
    ),
)


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS webhook text")
    op.execute(
        "CREATE TABLE IF NOT EXISTS webhook_deliveries ("
        " run_id uuid NOT NULL, thread_id text NOT NULL,"
        " tenant text NOT NULL DEFAULT 'default', owner text NOT NULL DEFAULT 'anonymous',"
        " url text NOT NULL, receiver text NOT NULL DEFAULT '',"
        " state text NOT NULL DEFAULT 'staged', attempt integer NOT NULL DEFAULT 0,"
        " run jsonb, result bytea, tries integer NOT NULL DEFAULT 0, problem text,"
        " due_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(),"
        " settled_at timestamptz,"
        " CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (run_id),"
        " CONSTRAINT webhook_deliveries_state_check"
        " CHECK (state IN ('staged', 'due', 'sent', 'dead')),"
        " CONSTRAINT webhook_deliveries_due_is_whole_check"
        " CHECK (state <> 'due' OR (due_at IS NOT NULL AND run IS NOT NULL)))"
    )
    for column, text in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{text}'")
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    functions = {"runs_set_webhook": _SET, "runs_tell_webhook": _TELL}
    for definition in in_schema(functions, schema).values():
        connection.exec_driver_sql(definition)
    for name, moment, condition, function in _TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON runs")
        op.execute(
            f"CREATE TRIGGER {name} {moment} ON runs"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {function}()"
        )
    create_index_concurrently(
        "webhook_deliveries_due_at_idx", "ON webhook_deliveries (due_at) WHERE state = 'due'"
    )
    create_index_concurrently(
        "webhook_deliveries_created_at_idx", "ON webhook_deliveries (created_at)"
    )
