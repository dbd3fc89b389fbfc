"""Runs that processes were lost with: found without looking through the queue, executed apart.

``lived_seconds`` says how long an attempt had been executed when its process was lost.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS lived_seconds double precision")
    create_index_concurrently(
        "runs_suspected_idx",
        "ON runs (run_id) WHERE failures > 0 AND status IN ('pending', 'running')",
    )
