"""A note of the client who cancels a run, and an index on waiting runs that have a deadline.

The deadline itself stands in ``kwargs``. The previous release passes over both.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0017"
down_revision = "0016"

names = RevisionNames(indexes={"runs_deadline_idx": "runs"}, repeatable=True)


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS cancel_note text")
    op.execute("COMMENT ON COLUMN runs.cancel_note IS 'why, in the words of the client who asked'")
    create_index_concurrently(
        "runs_deadline_idx",
        "ON runs (thread_id) WHERE status = 'pending' AND kwargs ? 'deadline_seconds'",
    )
