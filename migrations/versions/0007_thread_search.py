"""Lists of threads by time, metadata and status; times to live of threads.

The previous release works as before. Triggers write the columns that lists filter by, for rows of
any release. No index contains the status itself. Every run changes the status, so starts and ends
of runs would no longer be HOT updates. The triggers call their function only when a thread enters
or leaves the status ``error`` or ``interrupted``, or when its metadata changes.
"""

from alembic import op
from sqlalchemy import text

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0007"
down_revision = "0006"

names = RevisionNames(
    indexes={
        "threads_newest_idx": "threads",
        "threads_halted_status_idx": "threads",
        "threads_metadata_idx": "threads",
        "threads_sweep_at_idx": "threads",
    },
    functions={"threads_set_listed": "halted_status"},
    repeatable=True,
)

_BATCH = 5000


def _listed(name: str, row: str) -> str:
    """SQL for a column that lists filter by. It is NULL if the text is too long for an index."""
    if name == "halted_status":
        return f"CASE WHEN {row}status IN ('error', 'interrupted') THEN {row}status END"
    found = f"{row}metadata ->> '{name}'"
    return (
        f"CASE WHEN jsonb_typeof({row}metadata -> '{name}') = 'string'"
        f" AND length({found}) <= 255 THEN {found} END"
    )


_LISTED = ("halted_status", "graph_id", "assistant_id")

_DIFFERS = " OR ".join(
    f"{{row}}{name} IS DISTINCT FROM {_listed(name, '{row}')}" for name in _LISTED
)

_FILL = f"""
WITH batch AS MATERIALIZED (
  SELECT thread_id FROM threads
  WHERE thread_id > :after
  ORDER BY thread_id
  LIMIT :batch
), filled AS (
  UPDATE threads SET {", ".join(f"{name} = {_listed(name, '')}" for name in _LISTED)}
  FROM batch
  WHERE threads.thread_id = batch.thread_id AND ({_DIFFERS.format(row="")})
)
SELECT max(thread_id) FROM batch
"""

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION threads_set_listed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  {" ".join(f"NEW.{name} := {_listed(name, 'NEW.')};" for name in _LISTED)}
  RETURN NEW;
END $$"""

# The conditions are short, because Postgres parses them again in every statement.
_TRIGGERS = (
    (
        "threads_listed_insert",
        "INSERT",
        "NOT NEW.temporary AND (NEW.metadata <> '{}' OR NEW.status <> 'idle')",
    ),
    (
        "threads_listed_status",
        "UPDATE OF status",
        f"NEW.halted_status IS DISTINCT FROM {_listed('halted_status', 'NEW.')}",
    ),
    (
        "threads_listed_metadata",
        "UPDATE OF metadata",
        "NOT NEW.temporary AND NEW.metadata IS DISTINCT FROM OLD.metadata",
    ),
)


def upgrade() -> None:
    op.execute("""
        ALTER TABLE threads
        ADD COLUMN IF NOT EXISTS halted_status text,
        ADD COLUMN IF NOT EXISTS graph_id text,
        ADD COLUMN IF NOT EXISTS assistant_id text,
        ADD COLUMN IF NOT EXISTS ttl_minutes double precision,
        ADD COLUMN IF NOT EXISTS ttl_strategy text,
        ADD COLUMN IF NOT EXISTS sweep_at timestamptz,
        ADD COLUMN IF NOT EXISTS pruned_at timestamptz,
        DROP CONSTRAINT IF EXISTS threads_ttl_strategy_check,
        ADD CONSTRAINT threads_ttl_strategy_check
        CHECK (ttl_strategy IN ('delete', 'keep_latest')) NOT VALID""")
    # Leave space on each page: an update is HOT only if the new version of the row is on its page.
    op.execute("ALTER TABLE threads SET (fillfactor = 85)")
    op.execute("""
        COMMENT ON COLUMN threads.halted_status
        IS 'status, where that is error or interrupted; written by a trigger'""")
    for name in ("graph_id", "assistant_id"):
        op.execute(f"""
            COMMENT ON COLUMN threads.{name}
            IS 'that of metadata, for lists; written by a trigger'""")
    op.execute("""
        COMMENT ON COLUMN threads.sweep_at
        IS 'when to look whether its time to live is over; runs do not change it'""")
    op.execute(_FUNCTION)
    for name, moment, condition in _TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON threads")
        op.execute(f"""
            CREATE TRIGGER {name} BEFORE {moment} ON threads
            FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION threads_set_listed()""")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE threads VALIDATE CONSTRAINT threads_ttl_strategy_check")
        connection, after = op.get_bind(), ""
        while after is not None:
            after = connection.scalar(text(_FILL), {"after": after, "batch": _BATCH})
    create_index_concurrently(
        "threads_newest_idx",
        "ON threads (tenant, created_at DESC, thread_id) INCLUDE (graph_id, assistant_id)"
        " WHERE NOT temporary",
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
