"""A hook for a user's own Alembic in a shared database: it ignores headrace's tables.

In ``env.py``: ``context.configure(..., include_name=include_name)``.
"""

from collections.abc import Mapping
from typing import Any

from headrace.db.statements import TABLES
from headrace.settings import Settings

_TABLES = frozenset(TABLES)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
    """Alembic's hook: False for tables of headrace and LangGraph, which Alembic then ignores.

    If headrace has its own schema, Alembic ignores only that schema: tables of the user may have
    these names in other schemas.
    """
    own = Settings().database.schema_name
    if type_ == "schema":
        return not own or name != own
    if type_ != "table":
        return True
    schema = parent_names.get("schema_name")
    if own:
        return schema != own
    return schema is not None or name not in _TABLES
