"""Drops LangGraph's indexes on ``thread_id`` alone: each table's primary key begins with it.

They cost each checkpoint a tenth of its time and bytes, and no read needs them. While a table is
not analysed, Postgres may even read all versions of a thread by them. LangGraph's ``setup()`` does
not create them again, because its own versions are recorded.
"""

from headrace.db.ddl import drop_index_concurrently

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        drop_index_concurrently(f"{table}_thread_id_idx")
