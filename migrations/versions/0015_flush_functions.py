"""The functions of a flush: one call commits checkpoints, ends and starts of runs.

The previous release does not call them, and works as before.
"""

from pathlib import Path

from alembic import op

from headrace.db.functions import definitions_of, in_schema
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
    # The release after it has other functions, and keeps these for the release before it.
    released = Path(__file__).with_name("flush_1.sql").read_text(encoding="utf-8")
    for text in in_schema(definitions_of(released), schema).values():
        connection.exec_driver_sql(text)
