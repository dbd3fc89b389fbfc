"""One row with the oldest revision whose release can still use this database."""

import sqlalchemy as sa
from alembic import op

from headrace.db.table_schema import RevisionNames

revision = "0004"
down_revision = "0003"

names = RevisionNames(
    tables={"schema_compat": {"only_row": "boolean", "min_revision": "text"}},
    indexes={"schema_compat_pkey": "schema_compat"},
)


def upgrade() -> None:
    op.create_table(
        "schema_compat",
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("min_revision", sa.Text(), nullable=False),
        sa.CheckConstraint("only_row", name=op.f("schema_compat_one_row_check")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("schema_compat_pkey")),
    )
    op.execute("INSERT INTO schema_compat (min_revision) VALUES ('0004')")
