"""The entry of Alembic. It runs revisions on the connection that headrace.db.migrate gives it."""

from typing import Any

from alembic import context

from headrace.db.cron_tables import CronRow
from headrace.db.key_tables import ApiKeyRow
from headrace.db.server_tables import ProcessRow
from headrace.db.tables import RunRow

#: Not ``alembic_version``: a user's own Alembic has that table in a shared database.
VERSION_TABLE = "headrace_alembic_version"


#: The tables of all models: each module of models adds its own.
(_TABLES,) = {model.metadata for model in (RunRow, CronRow, ApiKeyRow, ProcessRow)}

#: Foreign keys to tables of LangGraph, which have no models.
_TO_LANGGRAPH = ("store_index_paths_item_fkey",)


def _ours(name: str | None, type_: str, _parents: Any) -> bool:
    """False for tables of LangGraph and of other applications, and what refers to them."""
    if type_ == "foreign_key_constraint":
        return name not in _TO_LANGGRAPH
    return type_ != "table" or name in _TABLES.tables


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit(
            "Run migrations with `headrace db upgrade`, which locks the database first."
        )
    context.configure(
        connection=connection,
        target_metadata=_TABLES,
        version_table=VERSION_TABLE,
        transaction_per_migration=True,
        include_name=_ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
