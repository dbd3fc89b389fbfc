"""Threads of stateless runs by themselves.

Those that a lost process has left are looked for each minute, and there may be a million others.
Runs change neither column: starts and ends stay HOT updates.
"""

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0010"
down_revision = "0009"

names = RevisionNames(indexes={"threads_temporary_idx": "threads"}, repeatable=True)


def upgrade() -> None:
    create_index_concurrently("threads_temporary_idx", "ON threads (thread_id) WHERE temporary")
