"""headrace's own tables: assistants, threads, runs, processes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from headrace.db.table_schema import RevisionNames

revision = "0003"
down_revision = "0002"

names = RevisionNames(
    tables={
        "assistants": {"assistant_id": "uuid", "graph_id": "text", "owner": "text"},
        "processes": {"process_id": "uuid", "heartbeat_at": "timestamp with time zone"},
        "threads": {"thread_id": "text", "running_run_id": "uuid", "interrupts": "jsonb"},
        "runs": {"run_id": "uuid", "thread_id": "text", "kwargs": "jsonb", "process_id": "uuid"},
    },
    indexes={
        "assistants_pkey": "assistants",
        "assistants_graph_id_idx": "assistants",
        "processes_pkey": "processes",
        "threads_pkey": "threads",
        "threads_tenant_created_at_idx": "threads",
        "runs_pkey": "runs",
        "runs_one_running_idx": "runs",
        "runs_pending_idx": "runs",
        "runs_process_id_idx": "runs",
        "runs_thread_id_run_id_idx": "runs",
    },
)


def upgrade() -> None:
    op.create_table(
        "assistants",
        sa.Column("assistant_id", sa.Uuid(), nullable=False),
        sa.Column("graph_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("config", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("context", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("owner", sa.Text(), server_default=sa.text("'anonymous'"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("assistant_id", name=op.f("assistants_pkey")),
    )
    op.create_index("assistants_graph_id_idx", "assistants", ["tenant", "graph_id"], unique=False)
    op.create_table(
        "processes",
        sa.Column("process_id", sa.Uuid(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("lease_seconds", sa.Double(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lost", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("process_id", name=op.f("processes_pkey")),
    )
    op.execute("ALTER TABLE processes SET (fillfactor = 50)")
    op.create_table(
        "threads",
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'idle'"), nullable=False),
        sa.Column("running_run_id", sa.Uuid(), nullable=True),
        sa.Column(
            "temporary",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="made for a stateless run and deleted after it",
        ),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("config", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("interrupts", JSONB(), nullable=True),
        sa.Column("state_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("owner", sa.Text(), server_default=sa.text("'anonymous'"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "running_run_id IS NULL OR status = 'busy'", name=op.f("threads_running_is_busy_check")
        ),
        sa.CheckConstraint(
            "status IN ('idle', 'busy', 'interrupted', 'error')", name=op.f("threads_status_check")
        ),
        sa.CheckConstraint(
            "char_length(thread_id) BETWEEN 1 AND 255", name=op.f("threads_thread_id_length_check")
        ),
        sa.PrimaryKeyConstraint("thread_id", name=op.f("threads_pkey")),
    )
    op.create_index(
        "threads_tenant_created_at_idx",
        "threads",
        ["tenant", sa.literal_column("created_at DESC"), "thread_id"],
        unique=False,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("assistant_id", sa.Uuid(), nullable=False),
        sa.Column("graph_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("process_id", sa.Uuid(), nullable=True),
        sa.Column(
            "multitask_strategy", sa.Text(), server_default=sa.text("'enqueue'"), nullable=False
        ),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("kwargs", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("owner", sa.Text(), server_default=sa.text("'anonymous'"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (status IN ('success', 'error', 'timeout', 'interrupted'))",
            name=op.f("runs_ended_check"),
        ),
        sa.CheckConstraint(
            "status <> 'pending' OR process_id IS NULL", name=op.f("runs_pending_is_free_check")
        ),
        sa.CheckConstraint(
            "status <> 'running' OR (started_at IS NOT NULL AND process_id IS NOT NULL)",
            name=op.f("runs_running_is_owned_check"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running')"
            " OR status IN ('success', 'error', 'timeout', 'interrupted')",
            name=op.f("runs_status_check"),
        ),
        sa.CheckConstraint("attempt >= 0 AND failures >= 0", name=op.f("runs_counts_check")),
        sa.ForeignKeyConstraint(
            ["thread_id"],
            ["threads.thread_id"],
            name=op.f("runs_thread_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("runs_pkey")),
    )
    op.create_index(
        "runs_one_running_idx",
        "runs",
        ["thread_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "runs_pending_idx",
        "runs",
        ["thread_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "runs_process_id_idx",
        "runs",
        ["process_id"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "runs_thread_id_run_id_idx",
        "runs",
        ["thread_id", sa.literal_column("run_id DESC")],
        unique=False,
    )
