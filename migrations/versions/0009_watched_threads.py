"""Threads: whether somebody follows all their runs.

Nullable and without an index: runs of threads that nobody follows are started as before.
"""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE threads ADD COLUMN IF NOT EXISTS watched_until timestamptz")
    op.execute("""
        COMMENT ON COLUMN threads.watched_until
        IS 'until then somebody wants the events of all its runs stored'""")
