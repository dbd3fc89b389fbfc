"""DDL that several revisions share."""

from alembic import op
from sqlalchemy import text


def create_index_concurrently(name: str, definition: str) -> None:
    """``CREATE INDEX CONCURRENTLY IF NOT EXISTS name definition``, outside any transaction.

    A failed concurrent build leaves an INVALID index with that name, and IF NOT EXISTS would accept
    it. So it is dropped first.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        valid = connection.scalar(
            text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"),
            {"name": name},
        )
        if valid is False:
            connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
        connection.execute(text(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}"))


def drop_index_concurrently(name: str) -> None:
    """``DROP INDEX CONCURRENTLY IF EXISTS name``, outside any transaction."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def record_versions(table: str, last: int) -> None:
    """Record in LangGraph's own version table that its migrations 0 to ``last`` are done."""
    op.execute(f"INSERT INTO {table} (v) SELECT generate_series(0, {last}) ON CONFLICT DO NOTHING")
