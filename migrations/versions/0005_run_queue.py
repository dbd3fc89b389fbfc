"""The run queue: ready threads, cancel requests, stored events, idempotency keys.

The previous release works as before: its runs start and end. The index is created outside of the
transaction. So all objects before it may already exist on a second try.
"""

import sqlalchemy as sa
from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0005"
down_revision = "0004"

names = RevisionNames(
    tables={
        "run_events": {
            "run_id": "uuid",
            "event_id": "bigint",
            "attempt": "integer",
            "data": "bytea",
        },
        "idempotency_keys": {"tenant": "text", "route": "text", "key": "text", "run_id": "uuid"},
    },
    indexes={
        "run_events_pkey": "run_events",
        "idempotency_keys_pkey": "idempotency_keys",
        "idempotency_keys_created_at_idx": "idempotency_keys",
        "threads_ready_at_idx": "threads",
    },
    repeatable=True,
)


def upgrade() -> None:
    op.execute("""
        ALTER TABLE threads
        ADD COLUMN IF NOT EXISTS ready_at timestamptz,
        ADD COLUMN IF NOT EXISTS ready_run_id uuid,
        ADD COLUMN IF NOT EXISTS ready_graph_id text""")
    op.execute("""
        ALTER TABLE runs
        ADD COLUMN IF NOT EXISTS cancel_action text,
        ADD COLUMN IF NOT EXISTS watched_until timestamptz""")
    # VALIDATE reads the rows at the end, without a lock that blocks reads or writes.
    op.execute("""
        ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_cancel_action_check,
        ADD CONSTRAINT runs_cancel_action_check
        CHECK (cancel_action IN ('interrupt', 'rollback')) NOT VALID""")
    op.execute("""
        COMMENT ON COLUMN runs.cancel_action
        IS 'what its owner, or whoever takes it next, is asked to do with it'""")
    op.execute("""
        COMMENT ON COLUMN runs.watched_until
        IS 'until then a process that does not execute it wants its events stored'""")
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="JSON text"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("run_id", "event_id", name=op.f("run_events_pkey")),
        if_not_exists=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("thread_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant", "route", "key", name=op.f("idempotency_keys_pkey")),
        if_not_exists=True,
    )
    op.create_index(
        "idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"], if_not_exists=True
    )
    create_index_concurrently(
        "threads_ready_at_idx", "ON threads (ready_at) WHERE ready_at IS NOT NULL"
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE runs VALIDATE CONSTRAINT runs_cancel_action_check")
