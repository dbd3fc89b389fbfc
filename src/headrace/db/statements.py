"""SQL that matters stands in files of its own: named, commented, loaded once.

Statements name tables without a schema. Where ``database.schema`` says that the tables live in a
schema of their own, each connection is told so once, and psycopg asks a :class:`Statement` for the
text that fits the connection. No session carries a ``search_path``: behind a pooler it would leak
into other clients' sessions, and statements that users send over the shared pool keep the one of
their role.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, Connection
from psycopg.abc import AdaptContext
from psycopg.rows import DictRow, dict_row
from psycopg.sql import Composable

#: All tables that statements name: our own, and those of LangGraph's savers and stores.
TABLES = (
    "assistant_versions",
    "assistants",
    "checkpoint_blobs",
    "checkpoint_migrations",
    "checkpoint_writes",
    "checkpoints",
    "headrace_alembic_version",
    "idempotency_keys",
    "processes",
    "run_events",
    "runs",
    "schema_compat",
    "store",
    "store_migrations",
    "store_vectors",
    "threads",
    "vector_migrations",
)

#: A table where SQL opens it. Elsewhere its name is that of the range it was opened under.
_OPENED = re.compile(
    rb"\b(FROM|JOIN|INTO|UPDATE|USING)(\s+)(" + "|".join(TABLES).encode() + rb")\b",
    re.IGNORECASE,
)

#: The attribute of a connection that holds its schema.
_SCHEMA = "headrace_schema"


class Statement(bytes, Composable):
    """The text of a statement, in which names of tables have no schema."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The text for one connection, which psycopg names when it sends the statement."""
        schema = schema_of(context.connection) if context is not None else ""
        return qualified(bytes(self), schema) if schema else self

    __hash__ = bytes.__hash__
    __eq__ = bytes.__eq__
    __add__ = bytes.__add__  # type: ignore[assignment] # what is put together is plain text again
    __mul__ = bytes.__mul__  # type: ignore[assignment]
    __repr__ = bytes.__repr__


def statement(text: str) -> Statement:
    """``text`` as one."""
    return Statement(text.encode())


def use_schema(connection: AsyncConnection[Any] | Connection[Any], schema: str) -> None:
    """Let statements on ``connection`` mean the tables of ``schema``; empty: of its path."""
    if schema:
        setattr(connection, _SCHEMA, schema)


def schema_of(connection: Any) -> str:
    """The schema that :func:`use_schema` gave it, or nothing."""
    return getattr(connection, _SCHEMA, "")


@lru_cache(maxsize=1024)
def qualified(text: bytes, schema: str) -> bytes:
    """``text`` with the names of its tables in ``schema``."""
    prefix = f'"{schema}".'.encode()
    return _OPENED.sub(lambda found: found[1] + found[2] + prefix + found[3], text)


class _QualifyingCursor(AsyncCursor[DictRow]):
    """For statements of LangGraph, which are plain text."""

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await super().execute(_of_langgraph(query), *args, **kwargs)

    async def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        await super().executemany(_of_langgraph(query), *args, **kwargs)


def _of_langgraph(query: Any) -> Any:
    return statement(query) if isinstance(query, str) else query


def langgraph_cursor(connection: AsyncConnection[Any]) -> AsyncCursor[DictRow]:
    """A cursor as LangGraph's savers and stores want it, for the connection's schema."""
    if not schema_of(connection):
        return connection.cursor(binary=True, row_factory=dict_row)
    usual = connection.cursor_factory
    connection.cursor_factory = _QualifyingCursor
    try:
        return connection.cursor(binary=True, row_factory=dict_row)
    finally:
        connection.cursor_factory = usual


@cache
def named_statements(package: str, filename: str) -> Mapping[str, Statement]:
    """The statements of a file by the name that ``-- name:`` gives each, without comments."""
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
