"""Crons: runs on a schedule. The previous release passes over them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from headrace.db.table_schema import RevisionNames

revision = "0019"
down_revision = "0018"

names = RevisionNames(
    tables={
        "crons": {
            "cron_id": "uuid",
            "schedule": "text",
            "next_run_date": "timestamp with time zone",
        }
    },
    indexes={
        "crons_pkey": "crons",
        "crons_look_at_idx": "crons",
        "crons_created_at_idx": "crons",
        "crons_owner_idx": "crons",
        "crons_assistant_id_idx": "crons",
        "crons_thread_id_idx": "crons",
    },
)


def upgrade() -> None:
    op.create_table(
        "crons",
        sa.Column("cron_id", sa.Uuid(), nullable=False),
        sa.Column("assistant_id", sa.Uuid(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=True),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=True),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "disabled_reason",
            sa.Text(),
            nullable=True,
            comment="why headrace has disabled it; NULL: it is enabled, or a caller has",
        ),
        sa.Column("on_run_completed", sa.Text(), nullable=True),
        sa.Column("payload", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column(
            "headers",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="of the request that made it, for configurable of its runs",
        ),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("next_run_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "look_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a process looks at it; NULL: never",
        ),
        sa.Column(
            "caller",
            sa.Text(),
            server_default=sa.text("''"),
            nullable=False,
            comment="with whom its runs share places",
        ),
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
            "enabled OR look_at IS NULL", name=op.f("crons_disabled_is_left_alone_check")
        ),
        sa.CheckConstraint(
            "on_run_completed IN ('delete', 'keep')", name=op.f("crons_on_run_completed_check")
        ),
        sa.ForeignKeyConstraint(
            ["thread_id"],
            ["threads.thread_id"],
            name=op.f("crons_thread_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cron_id", name=op.f("crons_pkey")),
    )
    op.create_index(
        "crons_look_at_idx", "crons", ["look_at"], postgresql_where=sa.text("look_at IS NOT NULL")
    )
    op.create_index("crons_created_at_idx", "crons", ["tenant", "created_at", "cron_id"])
    op.create_index("crons_owner_idx", "crons", ["owner"])
    op.create_index("crons_assistant_id_idx", "crons", ["assistant_id"])
    op.create_index("crons_thread_id_idx", "crons", ["thread_id"])
