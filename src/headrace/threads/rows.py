"""Rows of threads from statements that are plain SQL."""

from collections.abc import Mapping
from typing import Any

from headrace.db.tables import ThreadRow

COLUMNS = tuple(column.name for column in ThreadRow.__table__.columns)

#: The attribute of a column whose name SQLAlchemy reserves.
_ATTRIBUTES = {"metadata": "metadata_"}


def row_from(columns: Mapping[str, Any]) -> ThreadRow:
    """A row that belongs to no session; columns that a newer release has added are left out."""
    return ThreadRow(
        **{_ATTRIBUTES.get(name, name): columns[name] for name in COLUMNS if name in columns}
    )
