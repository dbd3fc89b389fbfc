"""The caller of each run, and an index on each caller's ready threads: callers take turns.

A constant default rewrites no row. A release without these columns leaves them empty. Its runs
count as runs of one more caller, and processes claim them like others.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0013"
down_revision = "0012"

names = RevisionNames(indexes={"threads_ready_caller_idx": "threads"}, repeatable=True)


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS caller text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE threads ADD COLUMN IF NOT EXISTS ready_caller text NOT NULL DEFAULT ''")
    op.execute(
        "COMMENT ON COLUMN runs.caller IS 'with whom it shares places; part of a key''s digest'"
    )
    op.execute(
        "COMMENT ON COLUMN threads.ready_caller"
        " IS 'caller of the run that may be claimed; else empty'"
    )
    create_index_concurrently(
        "threads_ready_caller_idx",
        "ON threads (ready_caller, ready_at) WHERE ready_at IS NOT NULL",
    )
