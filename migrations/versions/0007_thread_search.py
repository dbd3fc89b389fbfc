"""Lists of threads by newest, metadata and status; how long threads are kept.

Nothing here changes what the release before does. What follows the status without being the status
is written by a trigger, because an index on a column that every run changes would cost each start
and end of a run its HOT update; its function is called only where a thread becomes or ceases to be
``error`` or ``interrupted``.
"""

from alembic import op
from sqlalchemy import text

from headrace.db.ddl import create_index_concurrently

revision = "0007"
down_revision = "0006"

_BATCH = 5000

_FILL = """
WITH batch AS MATERIALIZED (
  SELECT thread_id FROM threads
  WHERE thread_id > :after AND status IN ('error', 'interrupted')
  ORDER BY thread_id
  LIMIT :batch
), filled AS (
  UPDATE threads SET halted_status = status
  FROM batch
  WHERE threads.thread_id = batch.thread_id AND status IN ('error', 'interrupted')
    AND halted_status IS DISTINCT FROM status
)
SELECT max(thread_id) FROM batch
"""


def upgrade() -> None:
    op.execute("""
        ALTER TABLE threads
        ADD COLUMN IF NOT EXISTS halted_status text,
        ADD COLUMN IF NOT EXISTS ttl_minutes double precision,
        ADD COLUMN IF NOT EXISTS ttl_strategy text,
        ADD COLUMN IF NOT EXISTS sweep_at timestamptz,
        ADD COLUMN IF NOT EXISTS pruned_at timestamptz,
        DROP CONSTRAINT IF EXISTS threads_ttl_strategy_check,
        ADD CONSTRAINT threads_ttl_strategy_check
        CHECK (ttl_strategy IN ('delete', 'keep_latest')) NOT VALID""")
    # Room for the next version of a row on its page, without which an update is not HOT.
    op.execute("ALTER TABLE threads SET (fillfactor = 85)")
    op.execute("""
        COMMENT ON COLUMN threads.halted_status
        IS 'status, where that is error or interrupted; written by a trigger'""")
    op.execute("""
        COMMENT ON COLUMN threads.sweep_at
        IS 'when to look whether its time to live is over; runs do not change it'""")
    op.execute("""
        CREATE OR REPLACE FUNCTION threads_set_halted_status() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
          NEW.halted_status := CASE WHEN NEW.status IN ('error', 'interrupted') THEN NEW.status END;
          RETURN NEW;
        END $$""")
    op.execute("DROP TRIGGER IF EXISTS threads_halted_status ON threads")
    op.execute("""
        CREATE TRIGGER threads_halted_status BEFORE INSERT OR UPDATE OF status ON threads
        FOR EACH ROW
        WHEN (NEW.halted_status IS DISTINCT FROM
          CASE WHEN NEW.status IN ('error', 'interrupted') THEN NEW.status END)
        EXECUTE FUNCTION threads_set_halted_status()""")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE threads VALIDATE CONSTRAINT threads_ttl_strategy_check")
        connection, after = op.get_bind(), ""
        while after is not None:
            after = connection.scalar(text(_FILL), {"after": after, "batch": _BATCH})
    create_index_concurrently(
        "threads_newest_idx",
        "ON threads (tenant, created_at DESC, thread_id) WHERE NOT temporary",
    )
    create_index_concurrently(
        "threads_halted_status_idx",
        "ON threads (tenant, halted_status, created_at DESC, thread_id) WHERE NOT temporary",
    )
    create_index_concurrently(
        "threads_metadata_idx",
        "ON threads USING gin (metadata jsonb_path_ops)"
        " WITH (gin_pending_list_limit = 256) WHERE NOT temporary",
    )
    create_index_concurrently(
        "threads_sweep_at_idx", "ON threads (sweep_at) WHERE sweep_at IS NOT NULL"
    )
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS threads_tenant_created_at_idx")
