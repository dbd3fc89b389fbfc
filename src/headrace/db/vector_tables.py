"""The tables of the store's semantic index: what a database has, and how commands make them.

LangGraph's layout: ``store_vectors`` has a row for each embedded text of an item, and
``vector_migrations`` says that LangGraph's own migrations are done. ``store_index`` is headrace's:
it says which model the vectors come from, and how far a reindex has come. A server makes none of
these tables; it refuses to start where they do not fit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from headrace.db.grants import share_rights
from headrace.db.pool import Connection
from headrace.db.statements import schema_of, statement
from headrace.db.vector_index import ANN_INDEX, VECTORS, VectorIndex
from headrace.errors import StartupRefusal

#: The first release of pgvector whose searches go on until they have found enough (iterative scan).
_OLDEST = (0, 8)

#: Versions of LangGraph's migrations of the vectors: extension, table, index.
_LAST_VERSION = 2

_FOUND = """
SELECT
  (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
  (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'),
  (SELECT typname || '(' || atttypmod || ')'
    FROM pg_attribute JOIN pg_type ON atttypid = pg_type.oid
    WHERE attrelid = to_regclass(%(vectors)s) AND attname = 'embedding' AND NOT attisdropped),
  (SELECT concat_ws(' ', amname, opcname,
      (SELECT string_agg(one, ',' ORDER BY one) FROM unnest(reloptions) AS one))
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    JOIN pg_opclass ON pg_opclass.oid = indclass[0]
    WHERE indexrelid = to_regclass(%(ann)s) AND indisvalid),
  to_regclass(%(vectors)s) IS NOT NULL
"""

_RECORD = statement("SELECT dims, vector_type, embed, fields, rebuild FROM store_index")

_NOTE = statement("""
INSERT INTO store_index (dims, vector_type, embed, fields)
VALUES (%(dims)s, %(vector_type)s, %(embed)s, %(fields)s)
ON CONFLICT (only_row) DO UPDATE SET dims = EXCLUDED.dims, vector_type = EXCLUDED.vector_type,
  embed = EXCLUDED.embed, fields = EXCLUDED.fields, rebuild = NULL, updated_at = now()
""")

_COUNT_UNINDEXED = statement("""
SELECT count(*) FROM (
  SELECT FROM store WHERE NOT EXISTS (
    SELECT FROM store_vectors AS sv WHERE sv.prefix = store.prefix AND sv.key = store.key
  ) AND NOT EXISTS (
    SELECT FROM store_index_paths AS named
    WHERE named.prefix = store.prefix AND named.key = store.key AND named.paths = '[]'
  ) LIMIT 1000000) AS counted
""")


@dataclass(frozen=True, slots=True)
class VectorTables:
    """What a database has.

    :ivar version: of the extension; None: it is not there.
    :ivar home: the schema of the extension, quoted.
    :ivar column_type: that of the vectors, like ``vector(384)``; None: there is no such table.
    :ivar ann: the index on them, as :attr:`VectorIndex.ann`.
    :ivar taken: whether there is a table of that name.
    :ivar embed: the model of the vectors; None: not recorded.
    :ivar rebuild: how far a reindex into new tables has come; None: none was begun.
    """

    version: str | None
    home: str
    column_type: str | None
    ann: str | None
    taken: bool
    embed: str | None = None
    fields: tuple[str, ...] = ()
    rebuild: Mapping[str, Any] | None = None

    def holds(self, index: VectorIndex) -> bool:
        """Whether the table has vectors of this size and type."""
        return self.column_type == index.column_type

    def fits(self, index: VectorIndex) -> bool:
        """Whether the vectors are those that the index names."""
        return self.holds(index) and self.embed == index.embed


async def read_vector_tables(connection: Connection) -> VectorTables:
    """Read what the database has. The schema must be that of this release."""
    schema = schema_of(connection)
    prefix = f'"{schema}".' if schema else ""
    names = {"vectors": f"{prefix}{VECTORS}", "ann": f"{prefix}{ANN_INDEX}"}
    cursor = await connection.execute(_FOUND, names)
    found = await cursor.fetchone()
    assert found is not None
    version, home, column_type, ann, taken = found
    cursor = await connection.execute(_RECORD)
    row = await cursor.fetchone()
    embed, fields, rebuild = (row[2], tuple(row[3]), row[4]) if row else (None, (), None)
    return VectorTables(version, home or "", column_type, ann, taken, embed, fields, rebuild)


def refuse_unfit_vectors(found: VectorTables, index: VectorIndex) -> None:
    """Check that a server can use the vectors.

    :raises StartupRefusal: HR331 the extension is missing or too old, HR332 the tables are not
        there, HR333 they hold other vectors.
    """
    refuse_old_extension(found)
    if found.column_type is None or found.embed is None:
        raise StartupRefusal(
            "HR332",
            where="store.index",
            what="the database has no tables for its vectors yet",
            remedy="Run `headrace db upgrade` beside this langgraph.json, as for a new release.",
        )
    if not found.fits(index):
        raise other_vectors(found, index)


def refuse_old_extension(found: VectorTables) -> None:
    """:raises StartupRefusal: HR331 there is no extension, or it is too old."""
    if found.version is None:
        raise no_extension("this database does not have the extension vector (pgvector)")
    if tuple(int(part) for part in found.version.split(".")[:2]) < _OLDEST:
        raise StartupRefusal(
            "HR331",
            where="store.index",
            what=f"the extension vector (pgvector) of this database is {found.version}, and 0.8 is"
            " needed",
            remedy="Install a newer pgvector beside Postgres, and have the owner of the database"
            " run ALTER EXTENSION vector UPDATE.",
        )


def no_extension(what: str) -> StartupRefusal:
    """HR331."""
    return StartupRefusal(
        "HR331",
        where="store.index",
        what=what,
        remedy="Install pgvector beside Postgres and run `headrace db upgrade`, or have a superuser"
        " run CREATE EXTENSION vector; or take store.index out of langgraph.json.",
    )


def other_vectors(found: VectorTables, index: VectorIndex) -> StartupRefusal:
    """HR333."""
    have = f"{found.column_type} of {found.embed or 'an unknown model'}"
    return StartupRefusal(
        "HR333",
        where="store.index",
        what=f"langgraph.json asks for {index.column_type} of {index.embed}, and the database has"
        f" {have}",
        remedy="Run `headrace store reindex`, which embeds all items anew, or take the change"
        " back.",
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What :func:`prepare_vectors` has done.

    :ivar unindexed: items without a vector. A search by meaning does not find them.
    """

    made: bool
    adopted: bool
    unindexed: int


async def prepare_vectors(connection: Connection, index: VectorIndex) -> Prepared:
    """Make the extension and the tables where they are missing, and adopt those of LangGraph.

    It embeds nothing. It may be repeated.

    :raises StartupRefusal: HR331 the extension cannot be made, HR333 there are other vectors, HR317
        a table of another application has the name.
    """
    found = await read_vector_tables(connection)
    if found.version is None:
        await _make_extension(connection)
        found = await read_vector_tables(connection)
    refuse_old_extension(found)
    if found.taken and found.column_type is None:
        raise StartupRefusal(
            "HR317",
            where=f"table {VECTORS}",
            what="it is a table of another application, and store.index needs the name",
            remedy="Rename it, or give headrace a schema of its own (HEADRACE_DATABASE__SCHEMA).",
        )
    made = found.column_type is None
    if made:
        await make_vectors(connection, VECTORS, index, found.home)
        await make_ann_index(connection, VECTORS, ANN_INDEX, index, found.home)
    elif not found.holds(index) or found.embed not in (None, index.embed):
        raise other_vectors(found, index)
    adopted = not made and found.embed is None
    if made or adopted:
        await record_upstream_versions(connection)
        await note_index(connection, index)
    cursor = await connection.execute(_COUNT_UNINDEXED)
    row = await cursor.fetchone()
    return Prepared(made=made, adopted=adopted, unindexed=row[0] if row else 0)


async def _make_extension(connection: Connection) -> None:
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege:
        raise no_extension(
            f"role {connection.info.user} may not create the extension vector (pgvector)"
        ) from None
    except (
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.UndefinedFile,
        psycopg.errors.UndefinedObject,
    ):
        raise no_extension("this Postgres does not have the extension vector (pgvector)") from None


async def make_vectors(connection: Connection, name: str, index: VectorIndex, home: str) -> None:
    """Create a table for vectors, in LangGraph's layout, for the roles that change the store."""
    table = await named(connection, name)
    await connection.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {table} (prefix text NOT NULL, key text NOT NULL,"
            " field_name text NOT NULL, embedding {kind},"
            " created_at timestamptz DEFAULT CURRENT_TIMESTAMP,"
            " updated_at timestamptz DEFAULT CURRENT_TIMESTAMP,"
            " PRIMARY KEY (prefix, key, field_name),"
            " FOREIGN KEY (prefix, key) REFERENCES {store} (prefix, key) ON DELETE CASCADE)"
        ).format(
            table=table,
            store=await named(connection, "store"),
            kind=sql.SQL(f"{home}.{index.column_type}"),
        )
    )
    await share_rights(connection, table)


async def make_ann_index(
    connection: Connection,
    table: str,
    name: str,
    index: VectorIndex,
    home: str,
    *,
    concurrently: bool = False,
) -> None:
    """Create the index on the vectors, unless it is there or there should be none."""
    if index.kind == "flat":
        return
    options = ", ".join(f"{option} = {value}" for option, value in index.options)
    text = (
        f"CREATE INDEX {'CONCURRENTLY ' if concurrently else ''}IF NOT EXISTS {name} ON {{}}"
        f" USING {index.kind} (embedding {home}.{index.operator_class})"
        f"{f' WITH ({options})' if options else ''}"
    )
    await connection.execute(sql.SQL(text).format(await named(connection, table)))


async def record_upstream_versions(connection: Connection) -> None:
    """Say in LangGraph's own table that its migrations of the vectors are done."""
    table = await named(connection, "vector_migrations")
    await connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} (v INTEGER PRIMARY KEY)").format(table)
    )
    await share_rights(connection, table, ("SELECT",))
    await connection.execute(
        sql.SQL("INSERT INTO {} (v) SELECT generate_series(0, {}) ON CONFLICT DO NOTHING").format(
            table, _LAST_VERSION
        )
    )


async def note_index(connection: Connection, index: VectorIndex) -> None:
    """Record what the vectors of the table are, and that no reindex is under way."""
    await connection.execute(
        _NOTE,
        {
            "dims": index.dims,
            "vector_type": index.vector_type,
            "embed": index.embed,
            "fields": json.dumps(index.fields),
        },
    )


async def named(connection: Connection, table: str) -> sql.Identifier:
    """The table with its schema: that of the store."""
    schema = schema_of(connection)
    if not schema:
        cursor = await connection.execute(
            "SELECT relnamespace::regnamespace::name FROM pg_class"
            " WHERE oid = to_regclass('headrace_alembic_version')"
        )
        row = await cursor.fetchone()
        schema = str(row[0]) if row else "public"
    return sql.Identifier(schema, table)
