"""An index on the runs whose process was lost. Without it, a search for them reads the whole queue.

``lived_seconds`` says how long an attempt had been executed when its process was lost.
``graph_ids`` are the graphs that a process executes; NULL for a process of an older release.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0011"
down_revision = "0010"

names = RevisionNames(indexes={"runs_suspected_idx": "runs"}, repeatable=True)


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS lived_seconds double precision")
    op.execute("ALTER TABLE processes ADD COLUMN IF NOT EXISTS graph_ids text[]")
    op.execute(
        "COMMENT ON COLUMN processes.graph_ids IS"
        " 'which graphs it executes; NULL where its release does not say'"
    )
    create_index_concurrently(
        "runs_suspected_idx",
        "ON runs (run_id) WHERE failures > 0 AND status IN ('pending', 'running')",
    )
