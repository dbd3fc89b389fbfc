"""What a database looks like, as values that can be compared; and upstream's ways to lay it."""

from collections.abc import Sequence
from typing import Any

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore

#: Everything that upstream's setup() lays.
UPSTREAMS_TABLES = (
    "checkpoint_blobs",
    "checkpoint_migrations",
    "checkpoint_writes",
    "checkpoints",
    "store",
    "store_migrations",
)

_TABLES = """
SELECT relname, relkind, relpersistence, reloptions, obj_description(c.oid, 'pg_class')
FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
"""

_COLUMNS = """
SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
  AND a.attnum > 0 AND NOT a.attisdropped
"""

_CONSTRAINTS = """
SELECT c.relname, k.conname, k.contype, k.convalidated, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = 'public'::regnamespace
"""

_INDEXES = """
SELECT t.relname, i.relname, x.indisvalid, x.indisready, pg_get_indexdef(x.indexrelid)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE t.relnamespace = 'public'::regnamespace
"""

Snapshot = dict[str, list[tuple[Any, ...]]]


def snapshot(url: str, tables: Sequence[str] | None = None) -> Snapshot:
    """The catalog of ``tables`` (default all) and the rows of upstream's version tables."""
    queries = {
        "tables": _TABLES,
        "columns": _COLUMNS,
        "constraints": _CONSTRAINTS,
        "indexes": _INDEXES,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        found = {
            kind: sorted(
                (row for row in connection.execute(query) if tables is None or row[0] in tables),
                key=repr,
            )
            for kind, query in queries.items()
        }
        for book in ("checkpoint_migrations", "store_migrations"):
            if any(row[0] == book for row in found["tables"]):
                found[book] = connection.execute(f"SELECT v FROM {book} ORDER BY v").fetchall()
    return found


def invalid_indexes(url: str) -> list[str]:
    return [row[1] for row in snapshot(url)["indexes"] if not row[2]]


async def set_up_by_upstream(url: str) -> None:
    """What the tutorial does: setup() of saver and store."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
    async with AsyncPostgresStore.from_conn_string(url) as store:
        await store.setup()


def lay_prefix(url: str, book: str, migrations: Sequence[str], count: int) -> None:
    """The first ``count`` of upstream's migrations, laid and recorded as its setup() does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {book} (v INTEGER PRIMARY KEY)")
        for version, statement in enumerate(migrations[:count]):
            connection.execute(statement.encode())
            connection.execute(f"INSERT INTO {book} (v) VALUES (%s)", (version,))
