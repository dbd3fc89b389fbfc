"""The functions of a flush: one call commits checkpoints, ends and starts of runs.

The previous release does not call them, and works as before.
"""

from alembic import op

from headrace.db.functions import definitions_in
from headrace.db.table_schema import RevisionNames

revision = "0015"
down_revision = "0014"

names = RevisionNames(
    functions={
        "headrace_end_runs_1": "earlier_attempts",
        "headrace_start_runs_1": "multitask_strategies",
        "headrace_flush_1": "headrace_start_runs_1",
    },
    repeatable=True,
)


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    for text in definitions_in(schema).values():
        connection.exec_driver_sql(text)
