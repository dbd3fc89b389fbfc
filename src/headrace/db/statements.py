"""SQL statements: loaded from files, and adapted to the schema of a connection.

Statements name tables without a schema. If ``database.schema`` gives headrace a schema of its own,
each connection gets the name once (:func:`use_schema`). Then psycopg asks a :class:`Statement` for
the text with the schema. A server sets no ``search_path``: PgBouncer would leak it to sessions of
other clients, and users' statements on the shared pool need the ``search_path`` of their role. Only
migrations set it, on connections of their own.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.abc import AdaptContext
from psycopg.sql import Composable

#: All tables that statements name: headrace's, and those of LangGraph's savers and stores.
TABLES = (
    "api_keys",
    "assistant_versions",
    "assistants",
    "checkpoint_blobs",
    "checkpoint_migrations",
    "checkpoint_writes",
    "checkpoints",
    "crons",
    "headrace_alembic_version",
    "idempotency_keys",
    "processes",
    "run_events",
    "run_usage",
    "runs",
    "schema_compat",
    "store",
    "store_index",
    "store_index_paths",
    "store_migrations",
    "store_vectors",
    "store_vectors_next",
    "threads",
    "vector_migrations",
    "webhook_deliveries",
)

#: A table name after FROM, JOIN and so on, where it needs the schema. In other places the name
#: refers to that entry of the statement.
_OPENED = re.compile(
    rb"\b(FROM|JOIN|INTO|UPDATE|USING)(\s+)(" + "|".join(TABLES).encode() + rb")\b",
    re.IGNORECASE,
)

#: A call of one of headrace's functions (``functions.py``). Their names end with a version.
_CALLED = re.compile(rb"\b(headrace_[a-z_]+_\d+)(?=\()")

#: The attribute of a connection that holds its schema.
_SCHEMA = "headrace_schema"


class Statement(bytes, Composable):
    """The text of a statement. Its table names have no schema."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The text for the connection in ``context``. psycopg calls this to send the statement."""
        schema = schema_of(context.connection) if context is not None else ""
        return qualified(bytes(self), schema) if schema else self

    __hash__ = bytes.__hash__
    __eq__ = bytes.__eq__
    __add__ = bytes.__add__  # type: ignore[assignment] # the sum of two is plain bytes
    __mul__ = bytes.__mul__  # type: ignore[assignment]
    __repr__ = bytes.__repr__


def statement(text: str) -> Statement:
    """A statement with this text."""
    return Statement(text.encode())


def use_schema(connection: AsyncConnection[Any] | Connection[Any], schema: str) -> None:
    """Let statements on ``connection`` use the tables of ``schema``; empty: the search_path."""
    if schema:
        setattr(connection, _SCHEMA, schema)


def schema_of(connection: Any) -> str:
    """The schema that :func:`use_schema` has set; empty if none."""
    return getattr(connection, _SCHEMA, "")


@lru_cache(maxsize=1024)
def qualified(text: bytes, schema: str) -> bytes:
    """``text`` with ``schema`` before the names of tables, and of headrace's functions."""
    prefix = f'"{schema}".'.encode()
    text = _CALLED.sub(lambda found: prefix + found[1], text)
    return _OPENED.sub(lambda found: found[1] + found[2] + prefix + found[3], text)


@cache
def named_statements(package: str, filename: str) -> Mapping[str, Statement]:
    """The statements of a file by name, without comments. ``-- name:`` begins each statement."""
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return MappingProxyType(
        {
            name: statement(_without_comments(body))
            for name, body in zip(parts[::2], parts[1::2], strict=True)
        }
    )


def _without_comments(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip()
