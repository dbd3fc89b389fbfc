"""LangGraph's checkpoint tables, as AsyncPostgresSaver.setup() creates them (its versions 0 to 9).

A statement that was done before does nothing. So all databases end with these tables, from any
version of LangGraph's tables.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently, record_versions
from headrace.db.table_schema import RevisionNames

revision = "0001"
down_revision = None

names = RevisionNames(
    tables={
        "checkpoint_migrations": {"v": "integer"},
        "checkpoints": {
            "thread_id": "text",
            "checkpoint_ns": "text",
            "checkpoint_id": "text",
            "parent_checkpoint_id": "text",
            "type": "text",
            "checkpoint": "jsonb",
            "metadata": "jsonb",
        },
        "checkpoint_blobs": {
            "thread_id": "text",
            "checkpoint_ns": "text",
            "channel": "text",
            "version": "text",
            "type": "text",
            "blob": "bytea",
        },
        "checkpoint_writes": {
            "thread_id": "text",
            "checkpoint_ns": "text",
            "checkpoint_id": "text",
            "task_id": "text",
            "idx": "integer",
            "channel": "text",
            "type": "text",
            "blob": "bytea",
        },
    },
    indexes={
        "checkpoint_migrations_pkey": "checkpoint_migrations",
        "checkpoints_pkey": "checkpoints",
        "checkpoint_blobs_pkey": "checkpoint_blobs",
        "checkpoint_writes_pkey": "checkpoint_writes",
        "checkpoints_thread_id_idx": "checkpoints",
        "checkpoint_blobs_thread_id_idx": "checkpoint_blobs",
        "checkpoint_writes_thread_id_idx": "checkpoint_writes",
    },
    repeatable=True,
)


def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS checkpoint_migrations (v INTEGER PRIMARY KEY)")
    op.execute("""
        CREATE TABLE IF NOT EXISTS checkpoints (
            thread_id TEXT NOT NULL,
            checkpoint_ns TEXT NOT NULL DEFAULT '',
            checkpoint_id TEXT NOT NULL,
            parent_checkpoint_id TEXT,
            type TEXT,
            checkpoint JSONB NOT NULL,
            metadata JSONB NOT NULL DEFAULT '{}',
            PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
        )""")
    op.execute("""
        CREATE TABLE IF NOT EXISTS checkpoint_blobs (
            thread_id TEXT NOT NULL,
            checkpoint_ns TEXT NOT NULL DEFAULT '',
            channel TEXT NOT NULL,
            version TEXT NOT NULL,
            type TEXT NOT NULL,
            blob BYTEA,
            PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
        )""")
    op.execute("""
        CREATE TABLE IF NOT EXISTS checkpoint_writes (
            thread_id TEXT NOT NULL,
            checkpoint_ns TEXT NOT NULL DEFAULT '',
            checkpoint_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            idx INTEGER NOT NULL,
            channel TEXT NOT NULL,
            type TEXT,
            blob BYTEA NOT NULL,
            PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
        )""")
    op.execute("ALTER TABLE checkpoint_blobs ALTER COLUMN blob DROP NOT NULL")
    op.execute(
        "ALTER TABLE checkpoint_writes ADD COLUMN IF NOT EXISTS task_path TEXT NOT NULL DEFAULT ''"
    )
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        create_index_concurrently(f"{table}_thread_id_idx", f"ON {table} (thread_id)")
    record_versions("checkpoint_migrations", 9)
