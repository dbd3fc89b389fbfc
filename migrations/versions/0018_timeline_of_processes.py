"""The timeline of the server on which a process has registered, and functions that compare it.

The previous release knows no timeline: it leaves the column empty, and calls its own functions.
"""

from alembic import op

from headrace.db.functions import definitions_in
from headrace.db.table_schema import RevisionNames

revision = "0018"
down_revision = "0017"

names = RevisionNames(
    functions={
        "headrace_left_behind_1": "timeline",
        "headrace_end_runs_2": "earlier_attempts",
        "headrace_start_runs_2": "multitask_strategies",
        "headrace_flush_2": "headrace_start_runs_2",
    },
    repeatable=True,
)


def upgrade() -> None:
    op.execute("ALTER TABLE processes ADD COLUMN IF NOT EXISTS timeline text")
    op.execute(
        "COMMENT ON COLUMN processes.timeline IS"
        " 'WAL timeline of the server where it registered; NULL: not known'"
    )
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    for text in definitions_in(schema).values():
        connection.exec_driver_sql(text)
