"""An index on the threads of stateless runs.

Every minute, each process looks for such threads that a lost process has left. There may be a
million other threads. Runs change neither column, so starts and ends of runs stay HOT updates.
"""

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0010"
down_revision = "0009"

names = RevisionNames(indexes={"threads_temporary_idx": "threads"}, repeatable=True)


def upgrade() -> None:
    create_index_concurrently("threads_temporary_idx", "ON threads (thread_id) WHERE temporary")
