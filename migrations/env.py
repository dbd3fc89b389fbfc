"""The entry of Alembic. It runs revisions on the connection that headrace.db.migrate gives it."""

from typing import Any

from alembic import context

from headrace.db.tables import Base

#: Not ``alembic_version``: a user's own Alembic has that table in a shared database.
VERSION_TABLE = "headrace_alembic_version"


def _ours(name: str | None, type_: str, _parents: Any) -> bool:
    """False for tables of LangGraph and of other applications: Alembic does not compare them."""
    return type_ != "table" or name in Base.metadata.tables


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit(
            "Run migrations with `headrace db upgrade`, which locks the database first."
        )
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        transaction_per_migration=True,
        include_name=_ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
