"""For a user's own Alembic, which shares the database: it leaves headrace's tables alone.

In ``env.py``: ``context.configure(..., include_name=include_name)``.
"""

from collections.abc import Mapping
from typing import Any

from headrace.db.statements import TABLES
from headrace.settings import Settings

_TABLES = frozenset(TABLES)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
    """Alembic's hook: False for what is headrace's or LangGraph's, so that it is not compared.

    Where headrace has a schema of its own, that schema is left out, and its names are free for
    tables of other schemas.
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
