"""Versions of assistants. The present content of an assistant becomes its first stored version."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from headrace.db.table_schema import RevisionNames

revision = "0006"
down_revision = "0005"

names = RevisionNames(
    tables={"assistant_versions": {"assistant_id": "uuid", "version": "integer", "name": "text"}},
    indexes={"assistant_versions_pkey": "assistant_versions"},
    repeatable=True,
)


def upgrade() -> None:
    empty = sa.text("'{}'::jsonb")
    op.create_table(
        "assistant_versions",
        sa.Column("assistant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("graph_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("config", JSONB(), server_default=empty, nullable=False),
        sa.Column("context", JSONB(), server_default=empty, nullable=False),
        sa.Column("metadata", JSONB(), server_default=empty, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistants.assistant_id"],
            name=op.f("assistant_versions_assistant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("assistant_id", "version", name=op.f("assistant_versions_pkey")),
        if_not_exists=True,
    )
    op.execute("""
        INSERT INTO assistant_versions (
            assistant_id, version, graph_id, name, description, config, context, metadata,
            created_at)
        SELECT
            assistant_id, version, graph_id, name, description, config, context, metadata,
            updated_at
        FROM assistants
        ON CONFLICT DO NOTHING""")
