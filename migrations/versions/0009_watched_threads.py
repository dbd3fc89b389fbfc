"""Threads: until when a client follows all runs of the thread.

The column is nullable and has no index, so runs of other threads start as before.
"""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE threads ADD COLUMN IF NOT EXISTS watched_until timestamptz")
    op.execute("""
        COMMENT ON COLUMN threads.watched_until
        IS 'until then somebody wants the events of all its runs stored'""")
